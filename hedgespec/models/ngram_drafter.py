"""Prompt lookup: propose what followed the most recent occurrence of the longest matching suffix. NumPy only.

Its distribution is one-hot, so its scores are exact 0/1 hits for every start and depth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hedgespec.errors import ReplicaBusy, UnknownSession
from hedgespec.models.drafter_model import DraftRequest, ScoreRequest, Usage
from hedgespec.models.session_text import SessionText, new_part
from hedgespec.types import DraftTree, FeatureBlock, Observation, Scores, SessionSpec, SparseRows

MAX_SUFFIX = 5
NO_MATCH = -1


class SuffixIndex:
    """Where the text has last continued each of its suffixes of 1 to MAX_SUFFIX ids; one id costs MAX_SUFFIX look-ups.

    matches: [num_tokens + 1], matches[t] is the position that followed the most recent earlier occurrence of the
    longest suffix of ids[:t], or NO_MATCH. It never changes later: a draft at an old start can be repeated exactly.
    """

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.matches: list[int] = [NO_MATCH]
        self._continuations: dict[tuple[int, ...], int] = {}

    def append(self, token: int) -> None:
        self.ids.append(token)
        end = len(self.ids)
        longest = NO_MATCH
        for length in range(min(MAX_SUFFIX, end), 0, -1):
            suffix = tuple(self.ids[end - length :])
            if longest == NO_MATCH:
                longest = self._continuations.get(suffix, NO_MATCH)
            self._continuations[suffix] = end
        self.matches.append(longest)

    def continuation(self, start: int, num_tokens: int) -> list[int]:
        """What follows ids[:start] according to its match: num_tokens ids or none.

        A match that runs into `start` goes on with its own proposal: a repeating text is continued periodically.
        """
        position = self.matches[start]
        if position == NO_MATCH:
            return []
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
        self.drafter_id = drafter_id
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
        return new_part(observation, len(new))

    def push(self, block: FeatureBlock) -> None:
        """Features say nothing to a suffix index."""

    def has_newest_features(self, session_id: str) -> bool:
        return True

    def draft(self, requests: Sequence[DraftRequest]) -> list[DraftTree]:
        return [self._draft(request) for request in requests]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        return [self._score(request) for request in requests]

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
        token_ids = np.array(session.index.continuation(len(session.text), num_tokens), np.int32)
        draft_probs = _one_hot(token_ids) if spec.sampling.method == "rejection" else None
        return DraftTree.chain(token_ids, draft_probs, self.drafter_id)

    def _score(self, request: ScoreRequest) -> Scores:
        """A draft token is accepted exactly when the realised text agrees with the draft up to it."""
        session = self._session(request.session_id)
        observation, depth = request.observation, session.text.spec.max_draft_tokens
        first, num_prompt = session.text.num_prompt + observation.start, session.text.num_prompt
        num_tokens = len(observation.token_ids)
        hits = np.zeros((num_tokens, depth), np.float32)
        proposed = np.full((num_tokens, depth), NO_MATCH, np.int32)
        for start in range(max(num_prompt, first - depth + 1), first + num_tokens):
            for offset, token in enumerate(session.index.continuation(start, depth)):
                row = start + offset - first
                if row >= num_tokens:
                    break
                is_hit = token == session.index.ids[start + offset]
                if row >= 0:
                    hits[row, offset] = is_hit
                    proposed[row, offset] = token
                if not is_hit:
                    break
        return Scores(observation.start, hits, _overlap(proposed, observation))


class _Session:
    def __init__(self, spec: SessionSpec) -> None:
        self.text = SessionText(spec)
        self.index = SuffixIndex()
        for token in self.text.ids.tolist():
            self.index.append(token)


def _one_hot(token_ids: NDArray[np.int32]) -> SparseRows:
    num_rows = len(token_ids)
    return SparseRows(np.arange(num_rows + 1, dtype=np.int32), token_ids, np.ones(num_rows, np.float32))


def _overlap(proposed: NDArray[np.int32], observation: Observation) -> NDArray[np.float32] | None:
    """sum_x min(p, q) with a one-hot q is p at the proposed id: [num_tokens, depth].

    Ids outside the target's top are estimated without bias: 1 if the realised token is the proposed one and was not
    sent itself (see `speculative.scoring.acceptance_prob`).
    """
    top = observation.target_top
    if top is None:
        return None
    overlap = np.zeros(proposed.shape, np.float32)
    for row, realised in enumerate(observation.token_ids.tolist()):
        ids, probs = top.row(row)
        sent = dict(zip(ids.tolist(), probs.tolist(), strict=True))
        for column, token in enumerate(proposed[row].tolist()):
            is_estimated = token == realised and realised not in sent
            overlap[row, column] = 1.0 if is_estimated else sent.get(token, 0.0)
    return overlap
