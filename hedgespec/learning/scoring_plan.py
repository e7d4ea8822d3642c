"""The scoring plan says when each drafter is asked for scores: every round at the start, then less and less often.

Early choices cost most and need every score; the more is known the less one round more says, and one batched pass over a
backlog costs a drafter hardly more than a pass over one round. Later rounds form sweeps: the drafters are asked in turn,
some in each round until the next sweep begins, so that scores fit into the time in which the target verifies (ADR 8). No
position is lost: tokens observed without scores are scored in the next sweep, and the rest at the end of the answer.

Drafters of one group share a process and compute in the same passes, which cost little more for all of them than for one:
they are asked together.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

ScoreFrom = tuple[int | None, ...]
"""Per drafter the first output index that it is to score, None for one that is not asked."""


@lru_cache(maxsize=4096)
def sweep(round_index: int, dense_rounds: int, every: int) -> tuple[int, int]:
    """The sweep that a round belongs to: the round in which it began, and its number of rounds.

    The first dense_rounds are a sweep each; then sweeps take 1, 2, 2, 3, 3, ... rounds and at last `every`.
    """
    if round_index < dense_rounds:
        return round_index, 1
    first, twice = dense_rounds, 3
    while True:
        length = min(twice // 2, every)
        if length == every:
            return round_index - (round_index - first) % every, every
        if round_index < first + length:
            return first, length
        first, twice = first + length, twice + 1


def turn(group: int, num_groups: int, length: int) -> int:
    """The round of a sweep of that length in which a group is asked."""
    return group * length // num_groups


class ScoringPlan:
    """The plan of one answer. dense_rounds, every: see `sweep`."""

    def __init__(self, num_drafters: int, dense_rounds: int, every: int, groups: Sequence[int] | None = None) -> None:
        """groups: [num_drafters], the group of every drafter as a number from 0 on; None: each drafter is a group."""
        self._dense_rounds = dense_rounds
        self._every = every
        self._groups = list(range(num_drafters) if groups is None else groups)
        self._num_groups = len(set(self._groups))
        self._num_tokens = 0  # observed so far
        self._unscored_from = [0] * num_drafters

    def begins_sweep(self, round_index: int) -> bool:
        return sweep(round_index, self._dense_rounds, self._every)[0] == round_index

    def ends_sweep(self, round_index: int) -> bool:
        """Whether the last of the drafters are asked in this round."""
        first, length = sweep(round_index, self._dense_rounds, self._every)
        return round_index == first + turn(self._num_groups - 1, self._num_groups, length)

    def observe(self, num_tokens: int, awake: Mask) -> None:
        """More tokens were verified. awake: [num_drafters]; sleepers are not asked for them, only for earlier ones."""
        start, self._num_tokens = self._num_tokens, self._num_tokens + num_tokens
        for index, is_awake in enumerate(awake.tolist()):
            if not is_awake and self._unscored_from[index] == start:
                self._unscored_from[index] = self._num_tokens

    def take(self, round_index: int, *, all_drafters: bool = False) -> ScoreFrom | None:
        """Ask this round's drafters for everything that they have not scored; None when there is nothing."""
        first, length = sweep(round_index, self._dense_rounds, self._every)
        groups = {
            g
            for g in range(self._num_groups)
            if all_drafters or turn(g, self._num_groups, length) == round_index - first
        }
        if not groups:
            return None
        score_from: list[int | None] = [None] * len(self._groups)
        for index, group in enumerate(self._groups):
            if group in groups and self._unscored_from[index] < self._num_tokens:
                score_from[index] = self._unscored_from[index]
                self._unscored_from[index] = self._num_tokens
        return tuple(score_from) if any(start is not None for start in score_from) else None
