"""Verified tokens that were not scored yet are kept here until scores for them are requested."""

from __future__ import annotations

from collections import deque

from hedgespec.learning.observations import joined, new_part
from hedgespec.types import Observation

MAX_UNSCORED = 4096
"""Tokens per session; older ones are dropped, and their scores are never asked for again."""


class UnscoredTokens:
    """The observed tokens of one session since its last scores."""

    def __init__(self) -> None:
        self._parts: deque[Observation] = deque()
        self._num_tokens = 0

    def add(self, new: Observation, score_from: int | None) -> Observation:
        """Keep the new part of an observation; when it wants scores, return what is to be scored and keep nothing.

        Returns the tokens from score_from on (`Observation.score_from`; later where they were dropped or have been
        scored), or just the new part when score_from is None or no scores are wanted.
        """
        self._parts.append(new)
        self._num_tokens += len(new.token_ids)
        while self._num_tokens > MAX_UNSCORED and len(self._parts) > 1:
            self._num_tokens -= len(self._parts.popleft().token_ids)
        if not new.wants_scores:
            return new
        span = joined(list(self._parts)) if score_from is not None else new
        self._parts.clear()
        self._num_tokens = 0
        end = span.start + len(span.token_ids)
        first = span.start if score_from is None else max(span.start, score_from)
        return new_part(span, end - first)
