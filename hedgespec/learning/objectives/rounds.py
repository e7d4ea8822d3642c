"""Objective `rounds` counts target passes: its loss is the probability that a drafter, used alone, starts a round here."""

from __future__ import annotations

from hedgespec.learning.estimators import Floats, Mask
from hedgespec.learning.objectives.objective import Losses, Objective, loss_vectors


class Rounds(Objective):
    """Loss u of the next position. Summed over an answer, u is the drafter's expected number of target passes."""

    own_rounds_suffice = True
    works_with_trees = True

    def close(self, round_starts: Floats, acceptance: Floats, acceptance_prob: Floats, awake: Mask) -> Losses:
        return loss_vectors(round_starts, awake.T)
