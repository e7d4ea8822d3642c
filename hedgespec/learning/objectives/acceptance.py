"""Objective `acceptance` is the HedgeSpec paper's first: the probability that the next draft token is accepted."""

from __future__ import annotations

from hedgespec.learning.estimators import Floats, Mask
from hedgespec.learning.objectives.objective import Losses, Objective, bounded_vectors


class Acceptance(Objective):
    """Loss 1 - acceptance_prob at depth 1, acceptance_prob = sum_x min(p(x), q(x)) (Liu et al. 2025, section 4)."""

    needs_acceptance_prob = True

    def close(self, round_starts: Floats, acceptance: Floats, acceptance_prob: Floats, awake: Mask) -> Losses:
        if acceptance_prob.shape[2] == 0:
            return []
        return bounded_vectors(1.0 - acceptance_prob[:, :, 0].T, awake.T)
