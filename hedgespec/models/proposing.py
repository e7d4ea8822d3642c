"""What every drafter with a network does with its logits: choose draft tokens, and score verified ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.models.session_text import SessionText
from hedgespec.speculative.processing import TokenCounts, process_logits, shape_logits
from hedgespec.speculative.proposal import concatenate, propose, truncate
from hedgespec.speculative.scoring import acceptance_prob, realised_acceptance
from hedgespec.types import DraftTree, Observation, SparseRows


@dataclass(slots=True)
class DraftInProgress:
    """A chain that grows by one token per step of the network."""

    text: SessionText
    counts: TokenCounts | None
    round_index: int
    num_draft_tokens: int
    token_ids: list[int] = field(default_factory=list)
    laws: list[SparseRows] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        return len(self.token_ids) >= self.num_draft_tokens

    def extend(self, logits: Tensor) -> None:
        """Add the token proposed by logits [1, vocab]."""
        spec = self.text.spec
        method = spec.sampling.method
        ancestors = [self.token_ids]
        if method == "greedy":
            self.token_ids.append(int(shape_logits(logits, spec.sampling, self.counts, ancestors).argmax()))
            return
        law = truncate(process_logits(logits, spec.sampling, self.counts, ancestors))
        output_index = self.text.num_emitted + len(self.token_ids)
        token = propose(*law.row(0), method, spec.noise_seed, output_index, self.round_index)
        self.token_ids.append(token)
        self.laws.append(law)

    def finished(self, drafter_id: str) -> DraftTree:
        is_sampled = self.text.spec.sampling.method == "rejection"
        draft_probs = concatenate(self.laws) if is_sampled else None
        return DraftTree.chain(np.array(self.token_ids, np.int32), draft_probs, drafter_id)


def score_column(
    text: SessionText, observation: Observation, rows: Sequence[int], logits: Tensor
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Acceptance of an observation's tokens by a drafter whose logits for some of them are given; 0 for the others.

    rows:   rising indices into the observation's tokens; logits: [len(rows), vocab]
    Returns acceptance [num_tokens] and, when the target's top ids were sent, acceptance_prob [num_tokens].
    """
    num_tokens = len(observation.token_ids)
    acceptance = np.zeros(num_tokens, np.float32)
    overlap = np.zeros(num_tokens, np.float32) if observation.target_top is not None else None
    if len(rows):
        index = np.asarray(rows)
        chosen = Observation(
            start=observation.start,
            token_ids=observation.token_ids[index],
            target_probs=observation.target_probs[index],
            target_top=_select(observation.target_top, index) if observation.target_top is not None else None,
        )
        ancestors = [observation.token_ids[:row].tolist() for row in rows]
        values, overlaps = _scored(text, chosen, index, ancestors, logits)
        acceptance[index] = values
        if overlap is not None and overlaps is not None:
            overlap[index] = overlaps
    return acceptance, overlap


def _scored(
    text: SessionText, chosen: Observation, index: NDArray[np.int64], ancestors: list[list[int]], logits: Tensor
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    spec = text.spec
    counts = None
    if spec.sampling.has_penalties:
        before = text.ids[text.num_prompt : text.num_prompt + chosen.start]
        counts = TokenCounts(spec.prompt_ids, before)
    if spec.sampling.method == "greedy":
        own = shape_logits(logits, spec.sampling, counts, ancestors).argmax(dim=-1).cpu().numpy()
        hits = (own == chosen.token_ids).astype(np.float32)
        return hits, hits
    laws = truncate(process_logits(logits, spec.sampling, counts, ancestors))
    if spec.sampling.method == "coupled":
        indices = (chosen.start + index).tolist()
        proposed = [propose(*laws.row(r), "coupled", spec.noise_seed, i, 0) for r, i in enumerate(indices)]
        values = (np.array(proposed) == chosen.token_ids).astype(np.float32)
    else:
        values = realised_acceptance(
            laws, chosen.token_ids, chosen.target_probs, "rejection", spec.noise_seed, chosen.start
        )
    if chosen.target_top is None:
        return values, None
    return values, acceptance_prob(laws, chosen.token_ids, chosen.target_probs, chosen.target_top)


def _select(rows: SparseRows, index: NDArray[np.int64]) -> SparseRows:
    parts = [rows.row(int(row)) for row in index]
    offsets = np.concatenate([[0], np.cumsum([len(ids) for ids, _ in parts])]).astype(np.int32)
    return SparseRows(offsets, np.concatenate([ids for ids, _ in parts]), np.concatenate([p for _, p in parts]))


def scatter_logits(draft_logits: Tensor, draft_to_target: Tensor, vocab_size: int) -> Tensor:
    """Draft logits as rows over the target's vocabulary, -inf elsewhere: [rows, draft_vocab] -> [rows, vocab]."""
    if draft_logits.shape[-1] == vocab_size:
        return draft_logits
    full = torch.full((len(draft_logits), vocab_size), -torch.inf, dtype=draft_logits.dtype, device=draft_logits.device)
    full[:, draft_to_target] = draft_logits
    return full
