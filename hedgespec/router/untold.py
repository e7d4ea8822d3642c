"""What each drafter has not been told yet: verified tokens reach it with the next question to it, not in every round.

A message costs router and drafter about the same whatever it holds. Most drafters draft nothing and score nothing in most
rounds, so most messages would say only what the next one can say as well.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from hedgespec.learning.observations import first_part, joined
from hedgespec.types import Observation

MAX_UNTOLD = 16
"""Rounds; then a drafter is told without a question."""


class Untold:
    """The last observations of an answer, and from which output index on each drafter does not know them."""

    def __init__(self, num_drafters: int) -> None:
        self._recent: deque[Observation] = deque(maxlen=MAX_UNTOLD)
        self._known_until = [0] * num_drafters
        # by what is known and wanted: drafters that are sent the same get the same object, which travels once to a replica
        self._together: dict[tuple[int, int | None], Observation] = {}

    def add(self, observation: Observation) -> None:
        self._recent.append(observation)
        self._together.clear()

    def is_full(self, drafter_index: int) -> bool:
        """Whether the next observation would push out one that this drafter does not know."""
        return len(self._recent) == MAX_UNTOLD and self._known_until[drafter_index] <= self._recent[0].start

    def take(self, drafter_index: int, score_from: int | None = None) -> Observation:
        """Everything that the drafter does not know, which is taken to be told now, and the wish for scores from score_from
        on, None for no scores. It has no tokens when everything is known. Not before the first `add`."""
        key = self._known_until[drafter_index], score_from
        self._known_until[drafter_index] = self._end
        if key not in self._together:
            self._together[key] = self._message(*key)
        return self._together[key]

    def knows_all(self, drafter_index: int) -> bool:
        return not self._recent or self._known_until[drafter_index] >= self._end

    @property
    def _end(self) -> int:
        return self._recent[-1].start + len(self._recent[-1].token_ids)

    def _message(self, known_until: int, score_from: int | None) -> Observation:
        parts = [part for part in self._recent if part.start >= known_until]
        told = joined(parts) if parts else replace(first_part(self._recent[-1], 0), start=self._end)
        first = None if score_from == told.start else score_from
        return replace(told, wants_scores=score_from is not None, score_from=first)
