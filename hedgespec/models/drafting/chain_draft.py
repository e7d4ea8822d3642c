"""A chain that is being drafted: it chooses its next token from a network's logits."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.models.drafting.vocabulary import DraftVocabulary
from hedgespec.models.session_text import SessionText
from hedgespec.sampling.token_counts import TokenCounts
from hedgespec.speculative.device_sampling import can_shape
from hedgespec.speculative.noise import Purpose, coupled_keys, uniforms
from hedgespec.speculative.proposal import propose
from hedgespec.speculative.sparse_rows import concatenate
from hedgespec.types import DraftTree, Method, SparseRows


@dataclass(slots=True)
class ChainDraft:
    """A chain behind a session's text, which grows by one token per step of the network.

    counts:      of the text's ids, for penalties
    draft_probs: distributions that the tokens were sampled from, unless the draft is greedy
    """

    text: SessionText
    vocabulary: DraftVocabulary
    counts: TokenCounts | None
    round_index: int
    num_draft_tokens: int
    token_ids: list[int] = field(default_factory=list)
    draft_probs: list[SparseRows] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        return len(self.token_ids) >= self.num_draft_tokens

    @property
    def method(self) -> Method:
        return self.text.spec.sampling.method

    @property
    def can_complete_on_device(self) -> bool:
        """Whether the whole chain can be drawn on the device; otherwise its distributions depend on more than logits."""
        return can_shape(self.text.spec.sampling)

    def noise(self) -> NDArray[np.float64] | NDArray[np.int64]:
        """Return what a sampled draft is drawn with, one number per token: see `ChainSampling`."""
        spec = self.text.spec
        indices = self.text.num_emitted + np.arange(self.num_draft_tokens)
        if self.method == "coupled":
            return coupled_keys(spec.noise_seed, indices)
        return uniforms(spec.noise_seed, indices, Purpose.DRAFT, 0, round_index=self.round_index)

    def fill(self, token_ids: list[int], ids: NDArray[np.int32], probs: NDArray[np.float32]) -> None:
        """Take the whole draft.

        ids, probs: [num_draft_tokens, num_ids], the distributions that its tokens were drawn from, 0 behind what is kept
        """
        self.token_ids += token_ids
        if self.method == "rejection":
            is_kept = probs > 0
            offsets = np.concatenate(([0], np.cumsum(is_kept.sum(axis=1)))).astype(np.int32)
            self.draft_probs.append(SparseRows(offsets, ids[is_kept], probs[is_kept]))

    def extend(self, logits: Tensor) -> None:
        """Add the token that logits [1, num_columns] propose."""
        spec = self.text.spec
        ancestors = [self.token_ids]
        if self.method == "greedy":
            self.token_ids.append(int(self.vocabulary.greedy_ids(logits, spec.sampling, self.counts, ancestors)[0]))
            return
        kept = self.vocabulary.truncated(logits, spec.sampling, self.counts, ancestors)
        output_index = self.text.num_emitted + len(self.token_ids)
        token = propose(*kept.row(0), self.method, spec.noise_seed, output_index, self.round_index)
        self.token_ids.append(token)
        self.draft_probs.append(kept)

    def finished(self, drafter_id: str) -> DraftTree:
        draft_probs = concatenate(self.draft_probs) if self.method == "rejection" else None
        return DraftTree.chain(np.array(self.token_ids, np.int32), draft_probs, drafter_id)
