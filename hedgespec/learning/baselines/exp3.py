"""EXP3Spec, a baseline that sees only the drafter it played (BanditSpec, paper.md 2.3, with the square root restored)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hedgespec.learning.baselines.bandit import checked_draft_tokens, played_expert
from hedgespec.learning.learners.learner import Floats, Mask, checked_prior, frozen, log_normalised, saved_arrays

_LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True, slots=True)
class Exp3State:
    """prior, estimates, weights: [num_experts]; estimates are sums of importance-weighted losses."""

    prior: Floats
    estimates: Floats
    num_updates: int
    weights: Floats


class Exp3:
    """w_i ~ prior_i exp(-rate_t Z_i), rate_t = sqrt(ln N / (t N)), Z the sum of (L + 1 - emitted) / (L w_i) over its plays.

    An update is one round, played from the present weights; its loss is 1 - emitted / (L + 1), L = num_draft_tokens
    """

    def __init__(self, num_draft_tokens: int = 5) -> None:
        self._num_draft_tokens = checked_draft_tokens(num_draft_tokens)

    def init(self, prior: Floats) -> Exp3State:
        prior = checked_prior(prior)
        return Exp3State(prior, frozen(np.zeros_like(prior)), 0, prior)

    def weights(self, state: Exp3State) -> Floats:
        return state.weights

    def update(self, state: Exp3State, losses: Floats, awake: Mask) -> Exp3State:
        if not np.any(awake):
            return state
        index, loss = played_expert(losses, awake, state.prior.size)
        estimates = state.estimates.copy()
        # a drafter of next to no weight is played only when nobody else is there; its estimate must stay finite
        probability = max(float(state.weights[index]), _LEAST_PROBABILITY)
        estimates[index] += loss * (self._num_draft_tokens + 1) / (self._num_draft_tokens * probability)
        return _state(state.prior, estimates, state.num_updates + 1)

    def regret_bound(self, num_updates: int, prior_mass: float, num_experts: int) -> float:
        """In expectation over its plays: sqrt(T N ln N) (1 + ln(1/prior) / ln N) rounds' worth of the largest loss."""
        scale = math.log(max(num_experts, 2))
        root = math.sqrt(num_updates * num_experts * scale)
        return min(float(num_updates), root * (1.0 - math.log(prior_mass) / scale))

    def state_dict(self, state: Exp3State) -> dict[str, Any]:
        return {
            "learner": "exp3spec",
            "prior": state.prior.tolist(),
            "estimates": state.estimates.tolist(),
            "num_updates": state.num_updates,
        }

    def restore(self, saved: Mapping[str, Any]) -> Exp3State:
        prior, num_updates, (estimates,) = saved_arrays(saved, "exp3spec", "estimates")
        return _state(prior, estimates, num_updates)


def _state(prior: Floats, estimates: Floats, num_updates: int) -> Exp3State:
    rate = math.sqrt(math.log(max(prior.size, 2)) / ((num_updates + 1) * prior.size))
    weights = log_normalised(np.log(prior) - rate * estimates) if num_updates else prior
    return Exp3State(prior, frozen(estimates), num_updates, weights)
