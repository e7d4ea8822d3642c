"""Objective `time` weighs target passes by seconds, so that a cheap drafter beats a slow one that is right more often."""

from __future__ import annotations

import numpy as np

from hedgespec.errors import ConfigError
from hedgespec.learning.estimators import Floats, Mask, RoundsCursor, advance
from hedgespec.learning.experts import Expert, one_per_drafter
from hedgespec.learning.objectives.objective import Losses, Objective, Pool, loss_vectors


class Time(Objective):
    """Loss u * seconds / seconds_max of the next position, per expert: its share of the time that this text takes.

    Experts are every drafter, with every draft length that is offered, and no speculation. All are scored from the same
    rows: a draft of k tokens is the beginning of the longest one, so its u is the recursion with a = 0 beyond depth k, and
    without speculation u = 1 everywhere. With one draft length only the starts of a drafter's own rounds are read.
    `seconds` is read at every closing.

    A round of k draft tokens counts at most k + 1 times as long as one without: it emits at most k + 1 tokens, so such a
    drafter is no better than no speculation either way, and one slow drafter does not make all others look alike.
    Positions that no drafter has scored are left out: no speculation alone is nothing to compare.
    Raises ConfigError without seconds.
    """

    own_rounds_suffice = True
    works_with_trees = True
    chooses_lengths = True

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        if pool.seconds is None:
            raise ConfigError("Objective time needs the seconds per round of every expert.")
        self.experts = experts_by_length(pool.num_drafters, pool.draft_lengths, pool.max_draft_tokens)
        self._seconds = pool.seconds
        lengths = np.array([expert.num_draft_tokens for expert in self.experts])
        self._most_emitted = lengths + 1.0
        self._drafters = np.array([expert.drafter_index or 0 for expert in self.experts])
        self._is_none = np.array([expert.drafter_index is None for expert in self.experts])[:, None]
        self._is_drafted = (np.arange(pool.max_draft_tokens) < lengths[:, None])[:, None, :]  # [num_experts, 1, depth]
        self._cursor = RoundsCursor.start(len(self.experts), pool.max_draft_tokens)

    def close(self, round_starts: Floats, acceptance: Floats, acceptance_prob: Floats, awake: Mask) -> Losses:
        """Raises ConfigError when `seconds` does not give one positive, finite number per expert."""
        experts_awake = awake[self._drafters] | self._is_none
        drafted = np.where(self._is_drafted, acceptance[self._drafters], 0.0)
        self._cursor, expert_starts = advance(self._cursor, drafted, experts_awake)
        is_evidence = awake.any(axis=0)
        vectors = loss_vectors(expert_starts[1:] * self._relative_seconds(), experts_awake.T)
        return vectors if is_evidence.all() else [vectors[k] for k in np.flatnonzero(is_evidence)]

    def pass_costs(self) -> Floats:
        return self._checked_seconds(one_per_drafter(self.pool.num_drafters, self.pool.max_draft_tokens))

    def _relative_seconds(self) -> Floats:
        seconds = self._checked_seconds(self.experts)
        seconds = np.minimum(seconds, self._most_emitted * seconds[-1])  # the last expert is no speculation
        relative: Floats = seconds / seconds.max()
        return relative

    def _checked_seconds(self, experts: tuple[Expert, ...]) -> Floats:
        seconds = np.asarray(self._seconds(experts), dtype=np.float64)
        # a NaN fails both comparisons
        if seconds.shape != (len(experts),) or not (seconds.min() > 0.0 and seconds.max() < np.inf):
            raise ConfigError(f"Objective time needs {len(experts)} positive seconds per round, got {seconds}.")
        return seconds


def experts_by_length(num_drafters: int, lengths: tuple[int, ...], max_draft_tokens: int) -> tuple[Expert, ...]:
    """Every drafter with every draft length, and no speculation.

    lengths: none means max_draft_tokens alone; longer ones are shortened to max_draft_tokens
    """
    allowed = sorted({min(length, max_draft_tokens) for length in lengths or (max_draft_tokens,)})
    pairs = tuple(Expert(index, length) for index in range(num_drafters) for length in allowed)
    return (*pairs, Expert(None, 0))
