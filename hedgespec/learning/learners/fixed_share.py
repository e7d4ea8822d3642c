"""Fixed-Share: each update returns a share of the weight to the prior (Herbster, Warmuth 1998, paper.md 4.5)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hedgespec.errors import ConfigError
from hedgespec.learning.learners.learner import Floats, Mask, checked_prior, filled_losses, frozen, saved_arrays


@dataclass(frozen=True, slots=True)
class FixedShareState:
    """prior, weights: [num_experts]; the weights are all the memory there is."""

    prior: Floats
    num_updates: int
    weights: Floats


class FixedShare:
    """w' = (1 - share) w exp(-rate l) / Z + share prior: an expert that was bad can return within 1/rate losses.

    horizon, num_switches: share = num_switches / horizon, and the rate that makes the bound for them smallest
    """

    def __init__(self, horizon: int = 256, num_switches: int = 2) -> None:
        if not 1 <= num_switches < horizon:
            raise ConfigError(f"Fixed-Share needs 1 <= num_switches < horizon, got {num_switches} and {horizon}.")
        self._horizon = horizon
        self._num_switches = num_switches
        self._share = num_switches / horizon

    def init(self, prior: Floats) -> FixedShareState:
        prior = checked_prior(prior)
        return FixedShareState(prior, 0, prior)

    def weights(self, state: FixedShareState) -> Floats:
        return state.weights

    def update(self, state: FixedShareState, losses: Floats, awake: Mask) -> FixedShareState:
        if not np.any(awake):
            return state
        complete, mixture_loss = filled_losses(losses, awake, state.weights, state.prior)
        kept = state.weights * np.exp(self._rate(complete.size) * (mixture_loss - complete))
        kept *= (1.0 - self._share) / float(np.add.reduce(kept))
        kept += self._share * state.prior
        return FixedShareState(state.prior, state.num_updates + 1, frozen(kept))

    def regret_bound(self, num_updates: int, prior_mass: float, num_experts: int) -> float:
        return self.shifting_bound(num_updates, 0, prior_mass, num_experts)

    def shifting_bound(self, num_updates: int, num_switches: int, prior_mass: float, num_experts: int) -> float:
        """Against any sequence of experts with at least this prior mass that changes num_switches times: the log of the
        weight that the prior over such sequences gives it, over the rate, plus rate T / 8."""
        rate = self._rate(num_experts)
        log_mass = (num_switches + 1) * math.log(prior_mass) + num_switches * math.log(self._share)
        log_mass += (num_updates - 1 - num_switches) * math.log1p(-self._share)
        return -log_mass / rate + rate * num_updates / 8.0

    def state_dict(self, state: FixedShareState) -> dict[str, Any]:
        return {
            "learner": "fixed_share",
            "prior": state.prior.tolist(),
            "weights": state.weights.tolist(),
            "num_updates": state.num_updates,
        }

    def restore(self, saved: Mapping[str, Any]) -> FixedShareState:
        prior, num_updates, (weights,) = saved_arrays(saved, "fixed_share", "weights")
        # checked like a prior, but taken over bit by bit
        checked_prior(weights)
        return FixedShareState(prior, num_updates, weights)

    def _rate(self, num_experts: int) -> float:
        switches, horizon = self._num_switches, self._horizon
        entropy = -switches * math.log(self._share) - (horizon - switches) * math.log1p(-self._share)
        return math.sqrt(8.0 * ((switches + 1) * math.log(max(num_experts, 2)) + entropy) / horizon)
