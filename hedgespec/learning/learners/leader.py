"""Follow the leader: all weight on the smallest loss so far. A baseline; losses turned against it ruin it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hedgespec.learning.learners.learner import Floats, Mask, checked_prior, filled_losses, frozen, saved_arrays

_TIE = 1e-9


@dataclass(frozen=True, slots=True)
class LeaderState:
    """prior, regret, weights: [num_experts]; the leaders have the largest regret."""

    prior: Floats
    regret: Floats
    num_updates: int
    weights: Floats


class FollowTheLeader:
    """The prior over those whose regret is the largest, ties within rounding."""

    def init(self, prior: Floats) -> LeaderState:
        prior = checked_prior(prior)
        return LeaderState(prior, frozen(np.zeros_like(prior)), 0, prior)

    def weights(self, state: LeaderState) -> Floats:
        return state.weights

    def update(self, state: LeaderState, losses: Floats, awake: Mask) -> LeaderState:
        if not np.any(awake):
            return state
        complete, mixture_loss = filled_losses(losses, awake, state.weights, state.prior)
        return _state(state.prior, state.regret + (mixture_loss - complete), state.num_updates + 1)

    def regret_bound(self, num_updates: int, prior_mass: float, num_experts: int) -> float:
        """The trivial one, T, and it is reached."""
        return float(num_updates)

    def state_dict(self, state: LeaderState) -> dict[str, Any]:
        return {
            "learner": "ftl",
            "prior": state.prior.tolist(),
            "regret": state.regret.tolist(),
            "num_updates": state.num_updates,
        }

    def restore(self, saved: Mapping[str, Any]) -> LeaderState:
        prior, num_updates, (regret,) = saved_arrays(saved, "ftl", "regret")
        return _state(prior, regret, num_updates)


def _state(prior: Floats, regret: Floats, num_updates: int) -> LeaderState:
    leading = np.where(regret >= regret.max() - _TIE, prior, 0.0)
    weights = frozen(leading / leading.sum()) if num_updates else prior
    return LeaderState(prior, frozen(regret), num_updates, weights)
