"""NormalHedge for answers whose best drafter changes: regret is discounted, and debts are capped (DESIGN 6).

Discounting forgets a former leader's merits. The cap on negative regret is what makes switching quick without discounting
much: an expert that was poor for a hundred tokens starts its comeback `max_debt` below zero instead of thirty. While
regret is negative NormalHedge's potential does not depend on it, so the cap costs nothing in the analysis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from hedgespec.errors import ConfigError
from hedgespec.learning.learners.learner import Floats, Mask, checked_prior, filled_losses, frozen, saved_arrays
from hedgespec.learning.learners.normalhedge import NormalHedge, NormalHedgeState, normalhedge_weights


class ForgettingNormalHedge:
    """R <- max(discount R + r, -max_debt), then NormalHedge's weights.

    name: what a saved state is marked with. discount: per update, in (0, 1]. max_debt: positive, math.inf is no cap
    """

    def __init__(self, name: str, discount: float, max_debt: float = math.inf) -> None:
        if not 0.0 < discount < 1.0:
            raise ConfigError(f"A discount per token is in (0, 1), got {discount}; without one use normalhedge.")
        if not max_debt > 0.0:
            raise ConfigError(f"The cap on negative regret must be positive, got {max_debt}.")
        self._name = name
        self._discount = discount
        self._max_debt = max_debt

    def init(self, prior: Floats) -> NormalHedgeState:
        prior = checked_prior(prior)
        return NormalHedgeState(prior, frozen(np.zeros_like(prior)), 0, prior)

    def weights(self, state: NormalHedgeState) -> Floats:
        return state.weights

    def update(self, state: NormalHedgeState, losses: Floats, awake: Mask) -> NormalHedgeState:
        if not np.logical_or.reduce(awake):
            return state
        complete, mixture_loss = filled_losses(losses, awake, state.weights, state.prior)
        regret = self._discount * state.regret + (mixture_loss - complete)
        return _state(state.prior, np.maximum(regret, -self._max_debt), state.num_updates + 1)

    def regret_bound(self, num_updates: int, prior_mass: float, num_experts: int) -> float:
        """Grows with T: forgetting has a price against an expert that is best throughout."""
        return self.shifting_bound(num_updates, 0, prior_mass, num_experts)

    def shifting_bound(self, num_updates: int, num_switches: int, prior_mass: float, num_experts: int) -> float:
        """Against any sequence of experts with at least this prior mass that changes num_switches times.

        Within a segment sum r <= R_end - discount R_start + (1 - discount) sum R. No R is above B, NormalHedge's bound
        for the 1 / (1 - discount^2) steps that a discounted sum remembers (of the same standing as that one: tested, not
        proved), and none is below -max_debt or -1 / (1 - discount).
        """
        forget = 1.0 - self._discount
        remembered = min(num_updates, math.ceil(1.0 / (1.0 - self._discount**2)))
        highest = NormalHedge().regret_bound(remembered, prior_mass, num_experts)
        debt = min(self._max_debt, 1.0 / forget)
        return (num_switches + 1) * highest + num_switches * debt + forget * num_updates * highest

    def state_dict(self, state: NormalHedgeState) -> dict[str, Any]:
        return {
            "learner": self._name,
            "prior": state.prior.tolist(),
            "regret": state.regret.tolist(),
            "num_updates": state.num_updates,
        }

    def restore(self, saved: Mapping[str, Any]) -> NormalHedgeState:
        prior, num_updates, (regret,) = saved_arrays(saved, self._name, "regret")
        return _state(prior, regret, num_updates)


def _state(prior: Floats, regret: Floats, num_updates: int) -> NormalHedgeState:
    return NormalHedgeState(prior, frozen(regret), num_updates, normalhedge_weights(regret, prior))
