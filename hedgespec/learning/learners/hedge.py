"""Hedge: exponential weights with the anytime rate sqrt(8 ln N / t) (paper.md 4.1)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hedgespec.learning.learners.learner import (
    Floats,
    Mask,
    checked_prior,
    filled_losses,
    frozen,
    log_normalised,
    saved_arrays,
)


@dataclass(frozen=True, slots=True)
class HedgeState:
    """prior, cumulative_losses, weights: [num_experts]; weights is derived from the others."""

    prior: Floats
    cumulative_losses: Floats
    num_updates: int
    weights: Floats


class Hedge:
    """w_i ~ prior_i exp(-rate_t L_i), rate_t falling so that no horizon has to be known."""

    def init(self, prior: Floats) -> HedgeState:
        prior = checked_prior(prior)
        return HedgeState(prior, frozen(np.zeros_like(prior)), 0, prior)

    def weights(self, state: HedgeState) -> Floats:
        return state.weights

    def update(self, state: HedgeState, losses: Floats, awake: Mask) -> HedgeState:
        if not np.any(awake):
            return state
        complete, _ = filled_losses(losses, awake, state.weights, state.prior)
        return _state(state.prior, state.cumulative_losses + complete, state.num_updates + 1)

    def regret_bound(self, num_updates: int, prior_mass: float, num_experts: int) -> float:
        """ln(1/prior)/rate_T + sum_t rate_t / 8: the mix loss telescopes because the rate only falls, and each step
        loses at most rate/8 to it (Hoeffding)."""
        # one expert has nothing to learn, but its rate must not be zero: the bound divides by it
        rates = np.sqrt(8.0 * math.log(max(num_experts, 2)) / np.arange(1, num_updates + 1))
        return float(math.log(1.0 / prior_mass) / rates[-1] + rates.sum() / 8.0)

    def state_dict(self, state: HedgeState) -> dict[str, Any]:
        return {
            "learner": "hedge",
            "prior": state.prior.tolist(),
            "cumulative_losses": state.cumulative_losses.tolist(),
            "num_updates": state.num_updates,
        }

    def restore(self, saved: Mapping[str, Any]) -> HedgeState:
        prior, num_updates, (losses,) = saved_arrays(saved, "hedge", "cumulative_losses")
        return _state(prior, losses, num_updates)


def _state(prior: Floats, cumulative_losses: Floats, num_updates: int) -> HedgeState:
    # the weights after t updates are used for update t + 1
    rate = math.sqrt(8.0 * math.log(max(prior.size, 2)) / (num_updates + 1))
    weights = log_normalised(np.log(prior) - rate * cumulative_losses) if num_updates else prior
    return HedgeState(prior, frozen(cumulative_losses), num_updates, weights)
