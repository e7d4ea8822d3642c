"""A drafter by prompt lookup: it proposes what followed the longest suffix of the text where it occurred before.

Its distribution is one-hot, so its scores are exact 0/1 hits for every start and depth, in all forms of drafts. Trees and
distinct chains add what followed earlier occurrences and shorter suffixes. NumPy only.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hedgespec.errors import ReplicaBusy, UnknownSession
from hedgespec.learning.observations import new_part
from hedgespec.models.drafter_model import Usage
from hedgespec.models.drafting.unscored_tokens import UnscoredTokens
from hedgespec.models.session_text import SessionText
from hedgespec.speculative.scoring import prompt_acceptance_probs
from hedgespec.speculative.sparse_rows import TokenDistribution
from hedgespec.types import (
    DraftForm,
    DraftRequest,
    DraftTree,
    FeatureBlock,
    Observation,
    PromptScoreRequest,
    ScoreRequest,
    Scores,
    SessionSpec,
    SparseRows,
)

MAX_SUFFIX = 5
MAX_MATCHES = 3
"""Occurrences of a suffix that are remembered: what a tree or several chains are made of."""


class SuffixIndex:
    """Remembers how the text has continued each of its suffixes of 1 to MAX_SUFFIX ids; one id costs MAX_SUFFIX look-ups.

    matches: [num_tokens + 1], matches[t] are the positions that followed the MAX_MATCHES most recent earlier occurrences
    of each suffix of ids[:t], the longest suffix first. They never change later: a draft at an old start can be repeated
    exactly.
    """

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.matches: list[tuple[int, ...]] = [()]
        self._continuations: dict[tuple[int, ...], tuple[int, ...]] = {}

    def append(self, token: int) -> None:
        self.ids.append(token)
        end = len(self.ids)
        found: dict[int, None] = {}
        for length in range(min(MAX_SUFFIX, end), 0, -1):
            suffix = tuple(self.ids[end - length :])
            earlier = self._continuations.get(suffix, ())
            found.update(dict.fromkeys(earlier))
            self._continuations[suffix] = (end, *earlier[: MAX_MATCHES - 1])
        self.matches.append(tuple(found))

    def continuation(self, start: int, num_tokens: int) -> list[int]:
        """Return what follows ids[:start] according to its best match: num_tokens ids or none."""
        matches = self.matches[start]
        return self._from(matches[0], start, num_tokens) if matches else []

    def draft(self, start: int, form: DraftForm, num_tokens: int, num_nodes: int) -> DraftTree:
        """Draft what follows ids[:start] according to its matches, the best one first.

        A tree has a node once however many matches pass through it; the chains of `distinct` share nothing and begin
        with different tokens; `iid` samples of one continuation are all the same chain. num_nodes: 0 for
        num_tokens * branching.
        """
        budget = num_nodes or num_tokens * form.branching
        tokens: list[int] = []
        parents: list[int] = []
        children: dict[int, dict[int, int]] = {}
        for position in self.matches[start][: 1 if form.kind in ("chain", "iid") else None]:
            node = -1
            for depth, token in enumerate(self._from(position, start, num_tokens)):
                own = children.setdefault(node, {})
                if token not in own:
                    if (
                        len(own) >= (form.branching if node == -1 or form.kind == "tree" else 1)
                        or len(tokens) >= budget
                    ):
                        break
                    own[token] = len(tokens)
                    tokens.append(token)
                    parents.append(node)
                elif form.kind == "distinct" and depth == 0:
                    break
                node = own[token]
        return DraftTree(np.array(tokens, np.int32), np.array(parents, np.int32))

    def _from(self, position: int, start: int, num_tokens: int) -> list[int]:
        """Read num_tokens ids from a match on; where it runs into `start` it goes on with its own proposal, periodically."""
        found: list[int] = []
        for offset in range(num_tokens):
            source = position + offset
            found.append(self.ids[source] if source < start else found[source - start])
        return found


class NgramDrafter:
    """`DrafterModel` without a model. max_tokens: bound on the indexed tokens of all sessions."""

    digest = f"suffix{MAX_SUFFIX}"
    uses_features = False

    def __init__(self, drafter_id: str, max_tokens: int) -> None:
        self.drafter_id = self.batched_by = drafter_id
        self._max_tokens = max_tokens
        self._sessions: dict[str, _Session] = {}

    def open(self, spec: SessionSpec) -> None:
        num_tokens = self.usage().num_cached_tokens + spec.num_tokens
        if num_tokens > self._max_tokens:
            raise ReplicaBusy(
                f"Drafter {self.drafter_id} would index {num_tokens} tokens, max_cached_tokens is {self._max_tokens}."
            )
        self._sessions[spec.session_id] = _Session(spec)

    def observe(self, session_id: str, observation: Observation) -> Observation:
        session = self._session(session_id)
        new = session.text.observe(observation)
        for token in new.tolist():
            session.index.append(token)
        return session.unscored.add(new_part(observation, len(new)), observation.score_from)

    def push(self, block: FeatureBlock) -> None:
        """Ignore features."""

    def has_newest_features(self, session_id: str) -> bool:
        return True

    def draft(self, requests: Sequence[DraftRequest]) -> list[DraftTree]:
        return [self._draft(request) for request in requests]

    def score_passes(self, requests: Sequence[ScoreRequest]) -> Generator[None, None, list[Scores]]:
        yield from ()
        return [self._score(request) for request in requests]

    def score_prompt(self, requests: Sequence[PromptScoreRequest]) -> list[NDArray[np.float32]]:
        return [self._score_prompt(request) for request in requests]

    def close(self, session_id: str) -> None:
        self._sessions.pop(session_id, None)

    def usage(self) -> Usage:
        num_tokens = sum(len(session.text) for session in self._sessions.values())
        return Usage(len(self._sessions), num_tokens, num_tokens)

    def _session(self, session_id: str) -> _Session:
        try:
            return self._sessions[session_id]
        except KeyError:
            raise UnknownSession(f"Session {session_id!r} is not open on drafter {self.drafter_id}; open it.") from None

    def _draft(self, request: DraftRequest) -> DraftTree:
        session = self._session(request.session_id)
        spec = session.text.spec
        num_tokens = min(request.num_draft_tokens, spec.max_draft_tokens)
        tree = session.index.draft(len(session.text), spec.draft_form, num_tokens, request.num_nodes)
        is_sampled = spec.sampling.method == "rejection" and spec.draft_form.kind != "tree"
        return replace(tree, draft_probs=_one_hot(tree.token_ids) if is_sampled else None, drafter_id=self.drafter_id)

    def _score(self, request: ScoreRequest) -> Scores:
        """Score: a draft token is accepted exactly when the realised text can be followed through the draft up to it."""
        session = self._session(request.session_id)
        observation, spec = request.observation, session.text.spec
        depth = spec.max_draft_tokens
        first, num_prompt = session.text.num_prompt + observation.start, session.text.num_prompt
        num_tokens = len(observation.token_ids)
        hits = np.zeros((num_tokens, depth), np.float32)
        acceptance_probs = None if observation.target_top is None else np.zeros((num_tokens, depth), np.float32)
        for start in range(max(num_prompt, first - depth + 1), first + num_tokens):
            drafted = _children(session.index.draft(start, spec.draft_form, depth, 0))
            node = -1
            for offset in range(min(depth, first + num_tokens - start)):
                own, row = drafted.get(node, {}), start + offset - first
                realised = session.index.ids[start + offset]
                if row >= 0:
                    hits[row, offset] = realised in own
                    if acceptance_probs is not None and observation.target_top is not None:
                        acceptance_probs[row, offset] = _mass(observation.target_top.row(row), list(own), realised)
                if realised not in own:
                    break
                node = own[realised]
        return Scores(observation.start, hits, acceptance_probs)

    def _score_prompt(self, request: PromptScoreRequest) -> NDArray[np.float32]:
        session = self._session(request.session_id)
        first = session.text.num_prompt - request.prompt_top.num_rows
        proposed = [session.index.continuation(p, 1) if p > 0 else [] for p in range(first, session.text.num_prompt)]
        has_match = np.array([bool(tokens) for tokens in proposed], bool)
        choices = np.array([tokens[0] for tokens in proposed if tokens], np.int64)
        return prompt_acceptance_probs(
            lambda rows, ids: (choices[rows] == ids).astype(np.float64), request.prompt_top, has_match
        )


class _Session:
    def __init__(self, spec: SessionSpec) -> None:
        self.text = SessionText(spec)
        self.index = SuffixIndex()
        self.unscored = UnscoredTokens()
        for token in self.text.ids.tolist():
            self.index.append(token)


def _one_hot(token_ids: NDArray[np.int32]) -> SparseRows:
    num_rows = len(token_ids)
    return SparseRows(np.arange(num_rows + 1, dtype=np.int32), token_ids, np.ones(num_rows, np.float32))


def _children(tree: DraftTree) -> dict[int, dict[int, int]]:
    """Return node -> token -> the child that stands for it."""
    found: dict[int, dict[int, int]] = {}
    for node, (token, parent) in enumerate(zip(tree.token_ids.tolist(), tree.parent.tolist(), strict=True)):
        found.setdefault(parent, {})[token] = node
    return found


def _mass(top: TokenDistribution, drafted: list[int], realised: int) -> float:
    """Return the target's probability of the drafted tokens: sum_x min(p, q) of a one-hot q, p(S) of a tree.

    Ids outside the target's top are estimated without bias: 1 if the realised token was drafted and was not sent itself
    (see `speculative.scoring.rejection_scores`).
    """
    ids, probs = top
    if realised in drafted and realised not in ids:
        return 1.0 + float(probs[np.isin(ids, drafted)].sum())
    return float(probs[np.isin(ids, drafted)].sum())
