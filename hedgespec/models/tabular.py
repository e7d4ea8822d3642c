"""Tiny exact models: a next-token law looked up by the last few ids. Target and drafter without an engine, for tests.

They use the same `accept`, `truncate`, `propose` and scoring functions as the engine, in float64, and hold no features.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.errors import UnknownSession
from hedgespec.learning.observations import new_part
from hedgespec.models.drafting.form_draft import DraftPlace, TreeDraft, WideDraft, wide_draft
from hedgespec.models.drafting.score_columns import ScoreColumns, counts_before
from hedgespec.models.drafting.session_text import SessionText
from hedgespec.models.drafting.shadow_cursor import CursorScores, ShadowCursor
from hedgespec.models.drafting.unscored import UnscoredTokens
from hedgespec.models.drafting.vocabulary import DraftVocabulary
from hedgespec.sampling.processing import soft_distribution
from hedgespec.sampling.token_counts import TokenCounts, token_counts
from hedgespec.speculative.acceptance import accept
from hedgespec.speculative.scoring import prompt_acceptance_probs
from hedgespec.speculative.target_top import prompt_top
from hedgespec.speculative.tree_walk import path_tokens
from hedgespec.speculative.validation import validate_tree
from hedgespec.speculative.verification import VerifyContext
from hedgespec.types import DraftRequest, DraftTree, Observation, Opened, Scores, SessionSpec, SparseRows, Verdict

S = TypeVar("S")


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
        num_prompt = len(spec.prompt_ids)
        scored = range(max(num_prompt - spec.num_prompt_scores, 1), num_prompt)
        if not scored:
            return Opened()
        laws = _logits([self._model.probs(spec.prompt_ids[:position].tolist()) for position in scored])
        return Opened(prompt_top=prompt_top(laws, spec.sampling))

    async def verify(self, session_id: str, round_index: int, tree: DraftTree) -> Verdict:
        session = _session(self._sessions, session_id)
        spec = session.spec
        validate_tree(tree, spec.sampling.method, self._model.vocab_size, spec.max_draft_tokens, spec.draft_form)
        await asyncio.sleep(self._delay_s)
        texts = [session.ids + path for path in path_tokens(tree)]
        context = VerifyContext(
            params=spec.sampling,
            noise_seed=spec.noise_seed,
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
        self._sessions: dict[str, _DraftSession] = {}

    async def open(self, spec: SessionSpec) -> Opened:
        self._sessions[spec.session_id] = _DraftSession(spec)
        return Opened()

    async def draft(self, request: DraftRequest) -> DraftTree:
        session = _session(self._sessions, request.session_id)
        if request.observation is not None:
            session.hear(request.observation)
        await asyncio.sleep(self._delay_s)
        text = session.text
        start = text.num_emitted
        num_tokens = min(request.num_draft_tokens, text.spec.max_draft_tokens)
        place = DraftPlace(text.spec, counts_before(text, start), start, request.round_index)
        return self._grown(text, wide_draft(place, num_tokens, request.num_nodes), start)

    async def observe(self, session_id: str, call_index: int, observation: Observation) -> Scores | None:
        session = _session(self._sessions, session_id)
        own = session.hear(observation)
        if not observation.wants_scores:
            return None
        return self._scores(session, observation if observation.score_from is None else own)

    async def score_prompt(self, session_id: str, prompt_top: SparseRows) -> NDArray[np.float32]:
        text = _session(self._sessions, session_id).text
        first = text.num_prompt - prompt_top.num_rows
        laws = _logits([self._model.probs(text.ids[:position].tolist()) for position in range(first, text.num_prompt)])
        probs = soft_distribution(laws, text.spec.sampling, None, None).numpy()
        return prompt_acceptance_probs(
            lambda rows, ids: probs[rows, ids], prompt_top, np.ones(prompt_top.num_rows, bool)
        )

    async def close(self, session_id: str) -> None:
        self._sessions.pop(session_id, None)

    def _grown(self, text: SessionText, draft: WideDraft, start: int) -> DraftTree:
        """A draft whose first token has output index `start`."""
        rows: list[list[int]] = [[]]
        draft.extend(self._logits_after(text, start, rows, 1))
        while draft.tokens:
            rows = [[*rows[parent], token] for parent, token in zip(draft.parent_rows, draft.tokens, strict=True)]
            draft.extend(self._logits_after(text, start, rows, len(rows[0]) + 1))
        return draft.finished(self.drafter_id)

    def _scores(self, session: _DraftSession, observation: Observation) -> Scores:
        text = session.text
        if text.spec.draft_form.kind == "tree":
            return self._walked(session, observation)
        is_by_start = self._depth_decay < 1.0 and text.spec.score_depth != "depth1"
        columns = ScoreColumns(text, DraftVocabulary(self._model.vocab_size), observation, is_by_start=is_by_start)
        rows = range(len(observation.token_ids))
        verified = [observation.token_ids[:row].tolist() for row in rows]
        columns.add_first(rows, self._logits_after(text, observation.start, verified, 1))
        if is_by_start:
            for depth in range(2, columns.depth + 1):
                columns.add(depth, rows, self._logits_after(text, observation.start, verified, depth))
        return columns.finished()

    def _walked(self, session: _DraftSession, observation: Observation) -> Scores:
        text, spec = session.text, session.text.spec
        walk = CursorScores(session.cursor, observation, spec.sampling.method, max(spec.max_draft_tokens, 1))
        walk.walk()
        while not walk.is_complete:
            start = walk.cursor.at
            place = DraftPlace(spec, counts_before(text, start), start)
            realised = None if walk.needs_whole_trees else walk.realised
            walk.cursor.enter(self._grown(text, TreeDraft(place, spec.max_draft_tokens, realised=realised), start))
            walk.walk()
        return walk.finished()

    def _logits_after(self, text: SessionText, start: int, ancestors: Sequence[Sequence[int]], depth: int) -> Tensor:
        """At `depth`, after the text before output index `start` plus each list of ancestors: [num_rows, vocab]."""
        before = text.ids[: text.num_prompt + start].tolist()
        share = self._depth_decay ** (depth - 1)
        laws = [share * self._model.probs([*before, *t]) + (1 - share) / self._model.vocab_size for t in ancestors]
        return _logits(laws)


class _DraftSession:
    def __init__(self, spec: SessionSpec) -> None:
        self.text = SessionText(spec)
        self.unscored = UnscoredTokens()
        self.cursor = ShadowCursor()

    def hear(self, observation: Observation) -> Observation:
        """What of it is new, with what is to be scored beside it (`UnscoredTokens.add`)."""
        new = self.text.observe(observation)
        return self.unscored.add(new_part(observation, len(new)), observation.score_from)


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
        emitted = self.ids[self.num_prompt : self.num_prompt + num_emitted]
        return token_counts(self.spec.sampling, self.spec.prompt_ids, emitted)


def _session(sessions: dict[str, S], session_id: str) -> S:
    try:
        return sessions[session_id]
    except KeyError:
        raise UnknownSession(f"session {session_id!r} is not open here; open it first") from None


def _logits(laws: Sequence[NDArray[np.float64]]) -> Tensor:
    return torch.from_numpy(np.array(laws)).log()
