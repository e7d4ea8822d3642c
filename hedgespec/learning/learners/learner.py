"""A learner turns one loss vector per verified position into weights over experts; this file says what all of them promise.

A learner owns no state and draws no randomness, so one object serves every answer. Losses are in [0, 1], one number per
expert and position (design 5); experts are the drafters, or drafters with a draft length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

State = TypeVar("State")

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Learner(Protocol[State]):
    """Weights over experts that are nearly as good as the best expert in hindsight.

    Bandits (`hedgespec.learning.baselines`) keep the same protocol: they are updated once per round, with the one drafter
    awake that was played.
    """

    def init(self, prior: Floats) -> State:
        """Start from a prior. prior: [num_experts], each entry positive (see `mixed_prior`); normalised here.

        Raises InvalidObservation when it is empty or not positive.
        """
        ...

    def weights(self, state: State) -> Floats:
        """[num_experts], non-negative, sums to 1; the prior itself before the first update. Read-only."""
        ...

    def update(self, state: State, losses: Floats, awake: Mask) -> State:
        """Take in one loss vector and return the new state; the old one stays as it was.

        losses: [num_experts] in [0, 1], read only where awake. awake: [num_experts]; an expert that is not awake gets
        the mixture's loss, so sleeping neither helps nor hurts it (Freund, Schapire, Singer, Warmuth 1997).
        Raises InvalidObservation for a wrong shape and for non-finite or out-of-range losses.
        """
        ...

    def regret_bound(self, num_updates: int, prior_mass: float, num_experts: int) -> float:
        """How far the mixture's summed loss can be above an expert's with this prior mass, over its awake updates."""
        ...


@dataclass(frozen=True, slots=True)
class LearnerSettings:
    """What some learners must know of the application.

    baseline_index: the expert that `safe` never loses to, an index into the order of the prior
    num_draft_tokens: the draft length that bandits' losses refer to, loss = 1 - emitted / (num_draft_tokens + 1)
    """

    baseline_index: int = 0
    num_draft_tokens: int = 5
