"""AdaNormalHedge has no rate and no root to find, and its regret scales with the losses (Luo, Schapire 2015)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hedgespec.learning.learners.checks import frozen
from hedgespec.learning.learners.full_information import FullInformation
from hedgespec.learning.learners.learner import Floats, LearnerSettings


def adanormalhedge(settings: LearnerSettings) -> AdaNormalHedge:
    """AdaNormalHedge, which needs no settings."""
    return AdaNormalHedge()


@dataclass(frozen=True, slots=True)
class AdaNormalHedgeState:
    """prior, regret, movement, weights: [num_experts]; movement is the summed size of the regret's steps (their C)."""

    prior: Floats
    regret: Floats
    movement: Floats
    weights: Floats


class AdaNormalHedge(FullInformation[AdaNormalHedgeState]):
    """w_i ~ prior_i (Phi(R_i + 1, C_i + 1) - Phi(R_i - 1, C_i + 1)), Phi(R, C) = exp([R]+^2 / 3C)."""

    def start(self, prior: Floats) -> AdaNormalHedgeState:
        zeros = frozen(np.zeros_like(prior))
        return AdaNormalHedgeState(prior, zeros, zeros, prior)

    def step(self, state: AdaNormalHedgeState, losses: Floats, mixture_loss: float) -> AdaNormalHedgeState:
        change = mixture_loss - losses
        regret, movement = frozen(state.regret + change), frozen(state.movement + np.abs(change))
        return AdaNormalHedgeState(state.prior, regret, movement, _weights(state.prior, regret, movement))

    def regret_bound(self, num_updates: int, prior_mass: float, num_experts: int) -> float:
        """sqrt(3 C_i ln(B / prior_i)), B = 1 + 3/2 sum_j prior_j (1 + ln(1 + C_j)): their theorem 1 for one expert, with
        every C at its largest, T."""
        potential = 1.0 + 1.5 * (1.0 + math.log1p(num_updates))
        return math.sqrt(3.0 * num_updates * (math.log(potential) - math.log(prior_mass)))


def _weights(prior: Floats, regret: Floats, movement: Floats) -> Floats:
    scale = 1.0 / (3.0 * (movement + 1.0))
    above = np.maximum(regret + 1.0, 0.0)
    below = np.maximum(regret - 1.0, 0.0)
    above *= above
    above *= scale
    below *= below
    below *= scale
    # exp(a) - exp(b) = exp(a) (1 - exp(b - a)), shifted by the largest a: neither overflow nor cancellation
    weights = np.exp(above - np.maximum.reduce(above))
    weights *= -np.expm1(below - above)
    weights *= prior
    total = float(np.add.reduce(weights))
    return frozen(weights / total) if total > 0.0 else prior
