"""Objective `throughput` weighs passes by seconds, so that drafter and draft length are chosen together."""

from __future__ import annotations

import numpy as np

from hedgespec.errors import ConfigError
from hedgespec.learning.estimators import Floats, Mask, RoundsCursor, advance
from hedgespec.learning.experts import Expert
from hedgespec.learning.objectives.objective import Losses, Objective, Pool, loss_vectors


class Throughput(Objective):
    """Loss u * seconds / seconds_max of the next position, per expert: its share of the time that this text takes.

    All experts are scored from the same rows: a draft of k tokens is the beginning of the longest one, so its u is the
    recursion with a = 0 beyond depth k, and without speculation u = 1 everywhere. `seconds` is read at every closing.
    Positions that no drafter has scored are left out: no speculation alone is nothing to compare.
    Raises ConfigError without seconds.
    """

    works_with_trees = True
    chooses_lengths = True

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        if pool.seconds is None:
            raise ConfigError("Objective throughput needs the seconds per round of every expert.")
        self.experts = experts_by_length(pool.num_drafters, pool.draft_lengths, pool.max_draft_tokens)
        self._seconds = pool.seconds
        lengths = np.array([expert.num_draft_tokens for expert in self.experts])
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

    def _relative_seconds(self) -> Floats:
        seconds = np.asarray(self._seconds(self.experts), dtype=np.float64)
        # a NaN fails both comparisons
        if seconds.shape != self._drafters.shape or not (seconds.min() > 0.0 and seconds.max() < np.inf):
            num_experts = len(self._drafters)
            raise ConfigError(f"Objective throughput needs {num_experts} positive seconds per round, got {seconds}.")
        relative: Floats = seconds / seconds.max()
        return relative


def experts_by_length(num_drafters: int, lengths: tuple[int, ...], max_draft_tokens: int) -> tuple[Expert, ...]:
    """Every drafter with every draft length, and no speculation.

    lengths: none means max_draft_tokens alone; longer ones are shortened to max_draft_tokens
    """
    allowed = sorted({min(length, max_draft_tokens) for length in lengths or (max_draft_tokens,)})
    pairs = tuple(Expert(index, length) for index in range(num_drafters) for length in allowed)
    return (*pairs, Expert(None, 0))
