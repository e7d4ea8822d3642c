"""When drafters are asked for scores: every round at the start of an answer, then every few rounds for all since then.

Early choices cost most and need every score; later one batched pass over a backlog costs a drafter hardly more than a
pass over one round. No position is lost: what was observed without scores is asked for at the next occasion, and what is
left at the end of the answer is asked for there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Occasion:
    """One request for scores to several drafters.

    score_from: per drafter the first output index it is to score, None for one that is not asked
    stretches: (number of tokens, [num_drafters] who scores them), in order, from the first unscored token to the last
    """

    score_from: tuple[int | None, ...]
    stretches: tuple[tuple[int, Mask], ...]


class ScoringPlan:
    """Of one answer. dense_rounds: first rounds that are all scored; every: rounds between two occasions afterwards."""

    def __init__(self, num_drafters: int, dense_rounds: int, every: int) -> None:
        self._num_drafters = num_drafters
        self._dense_rounds = dense_rounds
        self._every = every
        self._num_tokens = 0  # observed so far
        self._backlog: list[tuple[int, Mask]] = []

    def is_due(self, round_index: int) -> bool:
        """Whether scores are asked for in this round."""
        since_dense = round_index - self._dense_rounds + 1
        return since_dense <= 0 or since_dense % self._every == 0

    def observe(self, num_tokens: int, awake: Mask) -> None:
        """More tokens were verified; who sleeps now will never be asked for them. awake: [num_drafters]."""
        self._num_tokens += num_tokens
        if num_tokens:
            self._backlog.append((num_tokens, awake.copy()))

    def take(self, awake: Mask) -> Occasion | None:
        """Ask for the whole backlog now; None when there is none."""
        if not self._backlog:
            return None
        score_from: list[int | None] = [None] * self._num_drafters
        stretches = []
        start = self._num_tokens - sum(count for count, _ in self._backlog)
        for count, was_awake in self._backlog:
            asked = was_awake & awake
            for index in np.flatnonzero(asked):
                if score_from[index] is None:
                    score_from[index] = start
            stretches.append((count, asked))
            start += count
        self._backlog = []
        return Occasion(tuple(score_from), tuple(stretches))
