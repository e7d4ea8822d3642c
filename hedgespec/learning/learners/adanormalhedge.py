"""AdaNormalHedge: no rate, no root to find, and a regret that scales with the losses (Luo, Schapire 2015, paper.md 4.3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hedgespec.learning.learners.learner import Floats, Mask, checked_prior, filled_losses, frozen, saved_arrays


@dataclass(frozen=True, slots=True)
class AdaNormalHedgeState:
    """prior, regret, movement, weights: [num_experts]; movement is the summed size of the regret's steps (their C)."""

    prior: Floats
    regret: Floats
    movement: Floats
    num_updates: int
    weights: Floats


class AdaNormalHedge:
    """w_i ~ prior_i (Phi(R_i + 1, C_i + 1) - Phi(R_i - 1, C_i + 1)), Phi(R, C) = exp([R]+^2 / 3C)."""

    def init(self, prior: Floats) -> AdaNormalHedgeState:
        prior = checked_prior(prior)
        zeros = frozen(np.zeros_like(prior))
        return AdaNormalHedgeState(prior, zeros, zeros, 0, prior)

    def weights(self, state: AdaNormalHedgeState) -> Floats:
        return state.weights

    def update(self, state: AdaNormalHedgeState, losses: Floats, awake: Mask) -> AdaNormalHedgeState:
        if not np.any(awake):
            return state
        complete, mixture_loss = filled_losses(losses, awake, state.weights, state.prior)
        step = mixture_loss - complete
        return _state(state.prior, state.regret + step, state.movement + np.abs(step), state.num_updates + 1)

    def regret_bound(self, num_updates: int, prior_mass: float, num_experts: int) -> float:
        """sqrt(3 C_i ln(B / prior_i)), B = 1 + 3/2 sum_j prior_j (1 + ln(1 + C_j)): their theorem 1 for one expert, with
        every C at its largest, T."""
        potential = 1.0 + 1.5 * (1.0 + math.log1p(num_updates))
        return math.sqrt(3.0 * num_updates * (math.log(potential) - math.log(prior_mass)))

    def state_dict(self, state: AdaNormalHedgeState) -> dict[str, Any]:
        return {
            "learner": "adanormalhedge",
            "prior": state.prior.tolist(),
            "regret": state.regret.tolist(),
            "movement": state.movement.tolist(),
            "num_updates": state.num_updates,
        }

    def restore(self, saved: Mapping[str, Any]) -> AdaNormalHedgeState:
        prior, num_updates, (regret, movement) = saved_arrays(saved, "adanormalhedge", "regret", "movement")
        return _state(prior, regret, np.maximum(movement, 0.0), num_updates)


def _state(prior: Floats, regret: Floats, movement: Floats, num_updates: int) -> AdaNormalHedgeState:
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
    weights = prior if total <= 0.0 or num_updates == 0 else frozen(weights / total)
    return AdaNormalHedgeState(prior, frozen(regret), frozen(movement), num_updates, weights)
