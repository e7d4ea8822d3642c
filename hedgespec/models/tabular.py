"""Tiny exact models: a next-token law looked up by the last few ids. Target and drafter without an engine, for tests.

They use the same `accept`, `truncate`, `propose` and scoring functions as the engine, in float64, and hold no features.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.errors import InvalidObservation, UnknownSession
from hedgespec.speculative.acceptance import VerifyContext, accept, validate_tree
from hedgespec.speculative.processing import TokenCounts, process_logits
from hedgespec.speculative.proposal import concatenate, propose, truncate
from hedgespec.speculative.scoring import acceptance_prob, realised_acceptance
from hedgespec.types import EMPTY_DRAFT, DraftTree, Observation, Opened, Scores, SessionSpec, Verdict


@dataclass(frozen=True)
class TabularModel:
    """A random table of laws, the same for the same fields.

    order:     how many last ids select the row (fewer at the start of a text)
    sharpness: standard deviation of the logits; 0 is uniform, 5 nearly deterministic
    base, closeness: mix `closeness` of another model's law into this one's; 1 equals it
    """

    vocab_size: int = 6
    order: int = 2
    seed: int = 0
    sharpness: float = 1.5
    base: TabularModel | None = None
    closeness: float = 0.0
    _rows: dict[tuple[int, ...], NDArray[np.float64]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def digest(self) -> str:
        """The same for equal models; stands for the digest of a weight file."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]

    def related(self, closeness: float, seed: int) -> TabularModel:
        """A model of the same shape, `closeness` in [0, 1] like this one and otherwise a random table of its own."""
        return TabularModel(self.vocab_size, self.order, seed, self.sharpness, self, closeness)

    def probs(self, ids: Sequence[int]) -> NDArray[np.float64]:
        """The law after `ids`: [vocab], sums to 1."""
        key = tuple(int(token) for token in ids[-self.order :]) if self.order else ()
        if key not in self._rows:
            logits = self.sharpness * np.random.default_rng([self.seed, len(key), *key]).normal(size=self.vocab_size)
            law = np.exp(logits - logits.max())
            law /= law.sum()
            if self.base is not None:
                law = self.closeness * self.base.probs(ids) + (1 - self.closeness) * law
            self._rows[key] = law
        return self._rows[key]


class TabularTarget:
    """`protocols.Target` over a table. delay_s: an artificial duration of each verify."""

    def __init__(self, model: TabularModel, delay_s: float = 0.0) -> None:
        self._model = model
        self._delay_s = delay_s
        self._sessions: dict[str, _Session] = {}

    async def open(self, spec: SessionSpec) -> Opened:
        self._sessions[spec.session_id] = _Session(spec)
        return Opened()

    async def verify(self, session_id: str, round_index: int, tree: DraftTree) -> Verdict:
        session = _session(self._sessions, session_id)
        spec = session.spec
        validate_tree(tree, spec.sampling.method, self._model.vocab_size, spec.max_draft_tokens)
        await asyncio.sleep(self._delay_s)
        texts = [session.ids + tree.token_ids[:row].tolist() for row in range(tree.num_nodes + 1)]
        context = VerifyContext(
            params=spec.sampling,
            noise_seed=spec.noise_seed,
            round_index=round_index,
            first_output_index=session.num_emitted,
            counts=session.counts(session.num_emitted),
            num_target_top=spec.num_target_top,
        )
        verdict = accept([tree], _logits([self._model.probs(text) for text in texts]), [context])[0]
        session.ids.extend(verdict.token_ids.tolist())
        return verdict

    async def close(self, session_id: str) -> None:
        self._sessions.pop(session_id, None)


class TabularDrafter:
    """`protocols.Drafter` over a table.

    delay_s:     an artificial duration of each draft
    depth_decay: below 1 the drafts depend on where the round started, as an EAGLE head's do: at depth j only
                 depth_decay^(j-1) of the law is the model's, the rest is uniform
    """

    feature_sink = ""

    def __init__(self, drafter_id: str, model: TabularModel, delay_s: float = 0.0, depth_decay: float = 1.0) -> None:
        self.drafter_id = drafter_id
        self.digest = model.digest
        self._model = model
        self._delay_s = delay_s
        self._depth_decay = depth_decay
        self._sessions: dict[str, _Session] = {}

    async def open(self, spec: SessionSpec) -> Opened:
        self._sessions[spec.session_id] = _Session(spec)
        return Opened()

    async def draft(self, session_id: str, round_index: int, num_draft_tokens: int, num_nodes: int = 0) -> DraftTree:
        session = _session(self._sessions, session_id)
        spec, start = session.spec, session.num_emitted
        await asyncio.sleep(self._delay_s)
        drafted: list[int] = []
        rows = []
        for depth in range(1, min(num_draft_tokens, spec.max_draft_tokens) + 1):
            row = truncate(self._laws(session, start, [drafted], depth))
            token = propose(*row.row(0), spec.sampling.method, spec.noise_seed, start + depth - 1, round_index)
            drafted.append(token)
            rows.append(row)
        if not rows:
            return EMPTY_DRAFT
        draft_probs = concatenate(rows) if spec.sampling.method == "rejection" else None
        return DraftTree.chain(np.array(drafted, np.int32), draft_probs, self.drafter_id)

    async def observe(self, session_id: str, round_index: int, observation: Observation) -> Scores | None:
        session = _session(self._sessions, session_id)
        session.observe(observation)
        return self._scores(session, observation) if observation.wants_scores else None

    async def close(self, session_id: str) -> None:
        self._sessions.pop(session_id, None)

    def _scores(self, session: _Session, observation: Observation) -> Scores:
        spec, start = session.spec, observation.start
        tokens, target_probs = observation.token_ids, observation.target_probs
        verified = [tokens[:row].tolist() for row in range(len(tokens))]
        is_start_dependent = self._depth_decay < 1.0 and spec.score_depth == "exact"
        acceptance, gammas = [], []
        for depth in range(1, (spec.max_draft_tokens if is_start_dependent else 1) + 1):
            rows = truncate(self._laws(session, start, verified, depth))
            method = spec.sampling.method
            acceptance.append(realised_acceptance(rows, tokens, target_probs, method, spec.noise_seed, start))
            if observation.target_top is not None:
                gammas.append(acceptance_prob(rows, tokens, target_probs, observation.target_top))
        return Scores(start, np.stack(acceptance, axis=1), np.stack(gammas, axis=1) if gammas else None)

    def _laws(self, session: _Session, start: int, ancestors: list[list[int]], depth: int) -> Tensor:
        """Processed laws at `depth` after the text before output index `start` plus each list of ancestors."""
        text = session.ids[: session.num_prompt + start]
        share = self._depth_decay ** (depth - 1)
        rows = [share * self._model.probs(text + tokens) + (1 - share) / self._model.vocab_size for tokens in ancestors]
        return process_logits(_logits(rows), session.spec.sampling, session.counts(start), ancestors)


class _Session:
    """ids: prompt and verified tokens, as a growing list."""

    def __init__(self, spec: SessionSpec) -> None:
        self.spec = spec
        self.num_prompt = len(spec.prompt_ids)
        self.ids: list[int] = [*spec.prompt_ids.tolist(), *spec.emitted_ids.tolist()]

    @property
    def num_emitted(self) -> int:
        return len(self.ids) - self.num_prompt

    def counts(self, num_emitted: int) -> TokenCounts | None:
        if not self.spec.sampling.has_penalties:
            return None
        return TokenCounts(self.spec.prompt_ids, self.ids[self.num_prompt : self.num_prompt + num_emitted])

    def observe(self, observation: Observation) -> None:
        """Append the tokens that are new; the others must be the ones already known."""
        num_known = self.num_emitted - observation.start
        if num_known < 0:
            raise InvalidObservation(
                f"tokens from output index {observation.start}, but only {self.num_emitted} are known; resend the gap"
            )
        tokens = observation.token_ids.tolist()
        known = self.ids[self.num_prompt + observation.start :]
        if tokens[:num_known] != known[: len(tokens)]:
            raise InvalidObservation(
                f"output index {observation.start} and after was observed with other tokens before"
            )
        self.ids.extend(tokens[num_known:])


def _session(sessions: dict[str, _Session], session_id: str) -> _Session:
    try:
        return sessions[session_id]
    except KeyError:
        raise UnknownSession(f"session {session_id!r} is not open here; open it first") from None


def _logits(laws: list[NDArray[np.float64]]) -> Tensor:
    return torch.from_numpy(np.stack(laws)).log()
