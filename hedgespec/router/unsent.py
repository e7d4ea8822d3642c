"""Unsent observations wait here: verified tokens reach a drafter with the next request to it, not in every round.

A message costs router and drafter about the same whatever it holds. Most drafters draft nothing and score nothing in most
rounds, so most messages would carry only what the next one can carry as well.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from hedgespec.learning.observations import first_part, joined
from hedgespec.types import Observation

MAX_UNSENT = 16
"""Rounds that may wait; then a drafter is sent them without a request."""


class Unsent:
    """The last observations of an answer, and the output index up to which each drafter has been sent them."""

    def __init__(self, num_drafters: int) -> None:
        self._recent: deque[Observation] = deque(maxlen=MAX_UNSENT)
        self._sent_until = [0] * num_drafters
        # by sent_until and score_from: drafters that are sent the same get the same object, which travels once to a replica
        self._together: dict[tuple[int, int | None], Observation] = {}

    def add(self, observation: Observation) -> None:
        """Keep one round's verified tokens."""
        self._recent.append(observation)
        self._together.clear()

    def is_full(self, drafter_index: int) -> bool:
        """Whether the next observation would push out one that this drafter has not been sent."""
        return len(self._recent) == MAX_UNSENT and self._sent_until[drafter_index] <= self._recent[0].start

    def take(self, drafter_index: int, score_from: int | None = None) -> Observation:
        """Return what this drafter has not been sent yet and mark it sent; not before the first `add`.

        score_from: ask for scores from this output index on; None asks for none. The observation has no tokens when there
        is nothing left to send.
        """
        key = self._sent_until[drafter_index], score_from
        self._sent_until[drafter_index] = self._end
        if key not in self._together:
            self._together[key] = self._message(*key)
        return self._together[key]

    def is_empty(self, drafter_index: int) -> bool:
        """Whether this drafter has been sent everything."""
        return not self._recent or self._sent_until[drafter_index] >= self._end

    @property
    def _end(self) -> int:
        return self._recent[-1].start + len(self._recent[-1].token_ids)

    def _message(self, sent_until: int, score_from: int | None) -> Observation:
        parts = [part for part in self._recent if part.start >= sent_until]
        message = joined(parts) if parts else replace(first_part(self._recent[-1], 0), start=self._end)
        first = None if score_from == message.start else score_from
        return replace(message, wants_scores=score_from is not None, score_from=first)
