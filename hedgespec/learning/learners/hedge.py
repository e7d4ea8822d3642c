"""Hedge gives each expert a weight that falls exponentially with its summed loss (Freund, Schapire 1997)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hedgespec.errors import ConfigError
from hedgespec.learning.learners.checks import frozen, log_normalised
from hedgespec.learning.learners.full_information import FullInformation
from hedgespec.learning.learners.learner import Floats, LearnerSettings


def hedge(settings: LearnerSettings) -> Hedge:
    """Hedge for answers of any length."""
    return Hedge()


def hedge_fixed(settings: LearnerSettings) -> Hedge:
    """Hedge with the rate that is best for answers of about 256 tokens."""
    return Hedge(horizon=256)


@dataclass(frozen=True, slots=True)
class HedgeState:
    """prior, cumulative_losses, weights: [num_experts]; weights is derived from the others."""

    prior: Floats
    cumulative_losses: Floats
    num_updates: int
    weights: Floats


class Hedge(FullInformation[HedgeState]):
    """w_i ~ prior_i exp(-rate L_i), rate = sqrt(8 ln N / t) before update t, or sqrt(8 ln N / horizon) throughout.

    The falling rate needs no horizon (Cesa-Bianchi, Lugosi 2006, theorem 2.3), the constant one is theorem 2.2.
    horizon: updates per answer, a guess is enough; None for the falling rate. Raises ConfigError below 1.
    """

    def __init__(self, horizon: int | None = None) -> None:
        if horizon is not None and horizon < 1:
            raise ConfigError(f"A learner's horizon is at least one update, got {horizon}.")
        self._horizon = horizon

    def start(self, prior: Floats) -> HedgeState:
        return HedgeState(prior, frozen(np.zeros_like(prior)), 0, prior)

    def step(self, state: HedgeState, losses: Floats, mixture_loss: float) -> HedgeState:
        num_updates, cumulative = state.num_updates + 1, state.cumulative_losses + losses
        # the weights after t updates are used for update t + 1
        rate = math.sqrt(8.0 * _log_experts(losses.size) / (self._horizon or num_updates + 1))
        weights = log_normalised(np.log(state.prior) - rate * cumulative)
        return HedgeState(state.prior, frozen(cumulative), num_updates, weights)

    def regret_bound(self, num_updates: int, prior_mass: float, num_experts: int) -> float:
        """ln(1/prior) / rate_T + sum_t rate_t / 8: the mix loss telescopes because the rate never rises, and each step
        loses at most rate / 8 to it (Hoeffding)."""
        times = np.arange(1, num_updates + 1) if self._horizon is None else np.full(num_updates, self._horizon)
        rates = np.sqrt(8.0 * _log_experts(num_experts) / times)
        return float(-math.log(prior_mass) / rates[-1] + rates.sum() / 8.0)


def _log_experts(num_experts: int) -> float:
    # one expert has nothing to learn, but its rate must not be zero: the bound divides by it
    return math.log(max(num_experts, 2))
