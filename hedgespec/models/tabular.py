"""Tiny exact models: a table of next-token distributions by the last few ids. Target and drafter, for tests and demos.

They run without an engine and use the same `accept`, `truncate`, `propose` and scoring functions, in float64.
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
from hedgespec.models.drafting.score_columns import ScoreColumns, counts_before
from hedgespec.models.drafting.shadow_cursor import CursorScores, ShadowCursor
from hedgespec.models.drafting.unscored_tokens import UnscoredTokens
from hedgespec.models.drafting.vocabulary import DraftVocabulary
from hedgespec.models.drafting.wide_draft import DraftStart, TreeDraft, WideDraft, wide_draft
from hedgespec.models.session_text import SessionText
from hedgespec.sampling.processing import soft_distribution
from hedgespec.sampling.token_counts import TokenCounts, token_counts
from hedgespec.speculative.acceptance import accept, prompt_top
from hedgespec.speculative.scoring import prompt_acceptance_probs
from hedgespec.speculative.tree_walk import path_tokens
from hedgespec.speculative.validation import validate_tree
from hedgespec.speculative.verification import VerifyContext
from hedgespec.types import DraftRequest, DraftTree, Observation, Opened, Scores, SessionSpec, SparseRows, Verdict

S = TypeVar("S")


@dataclass(frozen=True)
class TabularModel:
    """A random table of next-token distributions, the same for the same fields.

    order:     how many last ids select the row (fewer at the start of a text)
    sharpness: standard deviation of the logits; 0 is uniform, 5 nearly deterministic
    base, closeness: mix `closeness` of another model's distribution into this one's; 1 equals it
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
        """Return what stands for the digest of a weight file: the same for equal models."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]

    def related(self, closeness: float, seed: int) -> TabularModel:
        """Make a model of the same shape, `closeness` in [0, 1] like this one and otherwise random."""
        return TabularModel(self.vocab_size, self.order, seed, self.sharpness, self, closeness)

    def probs(self, ids: Sequence[int]) -> NDArray[np.float64]:
        """Return the distribution after `ids`: [vocab], sums to 1."""
        key = tuple(int(token) for token in ids[-self.order :]) if self.order else ()
        if key not in self._rows:
            logits = self.sharpness * np.random.default_rng([self.seed, len(key), *key]).normal(size=self.vocab_size)
            row = np.exp(logits - logits.max())
            row /= row.sum()
            if self.base is not None:
                row = self.closeness * self.base.probs(ids) + (1 - self.closeness) * row
            self._rows[key] = row
        return self._rows[key]


class TabularTarget:
    """`protocols.Target` over a table. delay_s: an artificial duration of each verify."""

    replica = ""

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
        logits = _logits([self._model.probs(spec.prompt_ids[:position].tolist()) for position in scored])
        return Opened(prompt_top=prompt_top(logits, spec.sampling))

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
                 depth_decay^(j-1) of the distribution is the model's, the rest is uniform
    """

    replica = ""
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
            session.observe(request.observation)
        await asyncio.sleep(self._delay_s)
        text = session.text
        output_index = text.num_emitted
        start = DraftStart(text.spec, counts_before(text, output_index), output_index, request.round_index)
        num_tokens = min(request.num_draft_tokens, text.spec.max_draft_tokens)
        return self._grown(text, wide_draft(start, num_tokens, request.num_nodes), output_index)

    async def observe(self, session_id: str, call_index: int, observation: Observation) -> Scores | None:
        session = _session(self._sessions, session_id)
        own = session.observe(observation)
        if not observation.wants_scores:
            return None
        return self._scores(session, observation if observation.score_from is None else own)

    async def score_prompt(self, session_id: str, prompt_top: SparseRows) -> NDArray[np.float32]:
        text = _session(self._sessions, session_id).text
        first = text.num_prompt - prompt_top.num_rows
        before = [text.ids[:position].tolist() for position in range(first, text.num_prompt)]
        logits = _logits([self._model.probs(ids) for ids in before])
        probs = soft_distribution(logits, text.spec.sampling, None, None).numpy()
        every_row = np.ones(prompt_top.num_rows, bool)
        return prompt_acceptance_probs(lambda rows, ids: probs[rows, ids], prompt_top, every_row)

    async def close(self, session_id: str) -> None:
        self._sessions.pop(session_id, None)

    def _grown(self, text: SessionText, draft: WideDraft, start: int) -> DraftTree:
        """Complete a draft whose first token has output index `start`."""
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
            realised = None if walk.needs_whole_trees else walk.realised
            draft_start = DraftStart(spec, counts_before(text, start), start)
            draft = TreeDraft(draft_start, spec.max_draft_tokens, realised=realised)
            walk.cursor.enter(self._grown(text, draft, start))
            walk.walk()
        return walk.finished()

    def _logits_after(self, text: SessionText, start: int, ancestors: Sequence[Sequence[int]], depth: int) -> Tensor:
        """Return logits [num_rows, vocab] at `depth`, after the text before `start` and each list of ancestors."""
        before = text.ids[: text.num_prompt + start].tolist()
        share = self._depth_decay ** (depth - 1)
        rest = (1 - share) / self._model.vocab_size
        return _logits([share * self._model.probs([*before, *tokens]) + rest for tokens in ancestors])


class _DraftSession:
    def __init__(self, spec: SessionSpec) -> None:
        self.text = SessionText(spec)
        self.unscored = UnscoredTokens()
        self.cursor = ShadowCursor()

    def observe(self, observation: Observation) -> Observation:
        """Append what is new; return what is to be scored, see `UnscoredTokens.add`."""
        new = self.text.observe(observation)
        return self.unscored.add(new_part(observation, len(new)), observation.score_from)


class _Session:
    """A target's session. ids: prompt and verified tokens, as a growing list."""

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


def _logits(probs: Sequence[NDArray[np.float64]]) -> Tensor:
    return torch.from_numpy(np.array(probs)).log()
