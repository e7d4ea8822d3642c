"""Objective `length` is the HedgeSpec paper's second: the expected number of tokens that a pass from each start emits."""

from __future__ import annotations

import numpy as np

from hedgespec.learning.estimators import Floats, Mask, expected_length, length_product, start_diagonals
from hedgespec.learning.objectives.objective import Losses, Objective, Pool, bounded_vectors


class Length(Objective):
    """Loss 1 - L / (K + 1) of each start, L unbiased, when its K positions have closed; the last K - 1 starts never are."""

    needs_acceptance_prob = True

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self._waiting: tuple[Floats, Floats, Mask] | None = None  # the last K - 1 closed positions

    def lengths(self, acceptance: Floats, acceptance_prob: Floats) -> Floats:
        """L of every start. Both [..., depth] along the starts' diagonals; returns [...]."""
        return expected_length(acceptance, acceptance_prob)

    def close(self, round_starts: Floats, acceptance: Floats, acceptance_prob: Floats, awake: Mask) -> Losses:
        depth = self.pool.max_draft_tokens
        if depth == 0:
            return []
        if self._waiting is not None:
            acceptance = np.concatenate([self._waiting[0], acceptance], axis=1)
            acceptance_prob = np.concatenate([self._waiting[1], acceptance_prob], axis=1)
            awake = np.concatenate([self._waiting[2], awake], axis=1)
        keep = slice(max(awake.shape[1] - depth + 1, 0), None)
        self._waiting = acceptance[:, keep], acceptance_prob[:, keep], awake[:, keep]
        num_starts = awake.shape[1] - depth + 1
        if num_starts <= 0:
            return []
        lengths = self.lengths(start_diagonals(acceptance), start_diagonals(acceptance_prob))
        present: Mask = np.logical_and.reduce([awake[:, j : j + num_starts] for j in range(depth)])
        return bounded_vectors(1.0 - lengths.T / (depth + 1), present.T)


class LengthProduct(Length):
    """`length` by the estimator that is reported for the paper: less variance, but biased above temperature 0."""

    def lengths(self, acceptance: Floats, acceptance_prob: Floats) -> Floats:
        return length_product(acceptance_prob)
