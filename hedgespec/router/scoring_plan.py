"""When drafters are asked for scores: every round at the start of an answer, then less and less often for all since then.

Early choices cost most and need every score; the more is known the less one round more says, and one batched pass over a
backlog costs a drafter hardly more than a pass over one round. No position is lost: what was observed without scores is asked for at the next occasion, and what is
left at the end of the answer is asked for there.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

ScoreFrom = tuple[int | None, ...]
"""Per drafter the first output index that it is to score, None for one that is not asked."""


def is_due(round_index: int, dense_rounds: int, every: int) -> bool:
    """Whether scores are asked for in this round: in the first dense_rounds, then in gaps of 1, 2, 2, 3, 3, ... rounds that
    grow to `every`."""
    offset = round_index - dense_rounds + 1
    growing, last = _growing_gaps(every)
    return offset <= 0 or offset in growing or (offset > last and (offset - last) % every == 0)


@lru_cache
def _growing_gaps(every: int) -> tuple[frozenset[int], int]:
    """Where the gaps smaller than `every` end, counted from the last dense round, and where the last of them does."""
    ends = np.cumsum([twice // 2 for twice in range(3, 2 * every)], dtype=np.int64).tolist()
    return frozenset(ends), max(ends, default=0)


class ScoringPlan:
    """Of one answer. dense_rounds, every: see `is_due`."""

    def __init__(self, num_drafters: int, dense_rounds: int, every: int) -> None:
        self._dense_rounds = dense_rounds
        self._every = every
        self._num_tokens = 0  # observed so far
        self._unscored_from = np.zeros(num_drafters, dtype=np.int64)

    def is_due(self, round_index: int) -> bool:
        """Whether scores are asked for in this round."""
        return is_due(round_index, self._dense_rounds, self._every)

    def observe(self, num_tokens: int, awake: Mask) -> None:
        """More tokens were verified. awake: [num_drafters]; who sleeps is never asked for them.

        Drafters fall asleep right after an occasion (`Sleepers.occasion`), so a sleeper owes no earlier scores.
        """
        self._num_tokens += num_tokens
        self._unscored_from[~awake] = self._num_tokens

    def take(self) -> ScoreFrom | None:
        """Ask for everything that is unscored now; None when there is nothing."""
        end, firsts = self._num_tokens, self._unscored_from.tolist()
        self._unscored_from[:] = end
        score_from = tuple(first if first < end else None for first in firsts)
        return score_from if any(first is not None for first in score_from) else None
