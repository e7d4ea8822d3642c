"""EXP3 weighs drafters by importance-weighted losses of those it played; a baseline of BanditSpec (Hou et al. 2025)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hedgespec.learning.baselines.bandit import Bandit, checked_draft_tokens
from hedgespec.learning.learners.checks import frozen, log_normalised
from hedgespec.learning.learners.learner import Floats, LearnerSettings

_LEAST_PROBABILITY = 1e-12


def exp3spec(settings: LearnerSettings) -> Exp3:
    """EXP3Spec as published."""
    return Exp3(settings.num_draft_tokens)


@dataclass(frozen=True, slots=True)
class Exp3State:
    """prior, estimates, weights: [num_experts]; estimates are sums of importance-weighted losses."""

    prior: Floats
    estimates: Floats
    num_updates: int
    weights: Floats


class Exp3(Bandit[Exp3State]):
    """w_i ~ prior_i exp(-rate_t Z_i), rate_t = sqrt(ln N / (t N)), Z the sum of (L + 1 - emitted) / (L w_i) over its plays
    (BanditSpec, EXP3Spec, with the square root that its proof needs). L = num_draft_tokens. Raises ConfigError below 1.
    """

    def __init__(self, num_draft_tokens: int = 5) -> None:
        self._num_draft_tokens = checked_draft_tokens(num_draft_tokens)

    def start(self, prior: Floats) -> Exp3State:
        return Exp3State(prior, frozen(np.zeros_like(prior)), 0, prior)

    def step(self, state: Exp3State, played: int, loss: float) -> Exp3State:
        num_updates, estimates = state.num_updates + 1, state.estimates.copy()
        # a drafter of next to no weight is played only when no other is there; its estimate must stay finite
        probability = max(float(state.weights[played]), _LEAST_PROBABILITY)
        estimates[played] += loss * (self._num_draft_tokens + 1) / (self._num_draft_tokens * probability)
        num_experts = state.prior.size
        rate = math.sqrt(math.log(max(num_experts, 2)) / ((num_updates + 1) * num_experts))
        weights = log_normalised(np.log(state.prior) - rate * estimates)
        return Exp3State(state.prior, frozen(estimates), num_updates, weights)

    def regret_bound(self, num_updates: int, prior_mass: float, num_experts: int) -> float:
        """In expectation over its plays: sqrt(T N ln N) (1 + ln(1/prior) / ln N) rounds' worth of the largest loss."""
        scale = math.log(max(num_experts, 2))
        root = math.sqrt(num_updates * num_experts * scale)
        return min(float(num_updates), root * (1.0 - math.log(prior_mass) / scale))
