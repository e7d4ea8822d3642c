"""Hedge with one learning rate, chosen for a horizon that is known in advance (paper.md 4.1)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from hedgespec.errors import ConfigError
from hedgespec.learning.learners.hedge import HedgeState
from hedgespec.learning.learners.learner import (
    Floats,
    Mask,
    checked_prior,
    filled_losses,
    frozen,
    log_normalised,
    saved_arrays,
)


class FixedRateHedge:
    """w_i ~ prior_i exp(-rate L_i) with rate = sqrt(8 ln N / horizon). horizon: updates per answer, a guess is enough."""

    def __init__(self, horizon: int = 256) -> None:
        if horizon < 1:
            raise ConfigError(f"A learner's horizon is at least one update, got {horizon}.")
        self._horizon = horizon

    def init(self, prior: Floats) -> HedgeState:
        prior = checked_prior(prior)
        return HedgeState(prior, frozen(np.zeros_like(prior)), 0, prior)

    def weights(self, state: HedgeState) -> Floats:
        return state.weights

    def update(self, state: HedgeState, losses: Floats, awake: Mask) -> HedgeState:
        if not np.any(awake):
            return state
        complete, _ = filled_losses(losses, awake, state.weights, state.prior)
        return self._state(state.prior, state.cumulative_losses + complete, state.num_updates + 1)

    def regret_bound(self, num_updates: int, prior_mass: float, num_experts: int) -> float:
        """ln(1/prior)/rate + rate T / 8, at any T (Hoeffding); smallest in order at the horizon."""
        rate = self._rate(num_experts)
        return -math.log(prior_mass) / rate + rate * num_updates / 8.0

    def state_dict(self, state: HedgeState) -> dict[str, Any]:
        return {
            "learner": "hedge_fixed",
            "prior": state.prior.tolist(),
            "cumulative_losses": state.cumulative_losses.tolist(),
            "num_updates": state.num_updates,
        }

    def restore(self, saved: Mapping[str, Any]) -> HedgeState:
        prior, num_updates, (losses,) = saved_arrays(saved, "hedge_fixed", "cumulative_losses")
        return self._state(prior, losses, num_updates)

    def _rate(self, num_experts: int) -> float:
        return math.sqrt(8.0 * math.log(max(num_experts, 2)) / self._horizon)

    def _state(self, prior: Floats, cumulative_losses: Floats, num_updates: int) -> HedgeState:
        log_weights = np.log(prior) - self._rate(prior.size) * cumulative_losses
        weights = log_normalised(log_weights) if num_updates else prior
        return HedgeState(prior, frozen(cumulative_losses), num_updates, weights)
