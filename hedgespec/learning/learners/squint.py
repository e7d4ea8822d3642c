"""Squint averages exponential weights over all learning rates, second order in each expert (Koolen, van Erven 2015)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hedgespec.learning.learners.checks import frozen, log_normalised
from hedgespec.learning.learners.full_information import FullInformation
from hedgespec.learning.learners.learner import Floats, LearnerSettings

_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(32)

_DECAY = 30.0
"""The integrand is followed down to exp(-30) of its peak: on such a piece 32 nodes are exact to rounding."""


def squint(settings: LearnerSettings) -> Squint:
    """Squint, which needs no settings."""
    return Squint()


@dataclass(frozen=True, slots=True)
class SquintState:
    """prior, regret, variance, weights: [num_experts]; variance is the sum of squared instantaneous regrets (their V)."""

    prior: Floats
    regret: Floats
    variance: Floats
    weights: Floats


class Squint(FullInformation[SquintState]):
    """w_i ~ prior_i * integral over rate in [0, 1/2] of exp(rate R_i - rate^2 V_i): the improper prior 1/rate."""

    def start(self, prior: Floats) -> SquintState:
        zeros = frozen(np.zeros_like(prior))
        return SquintState(prior, zeros, zeros, prior)

    def step(self, state: SquintState, losses: Floats, mixture_loss: float) -> SquintState:
        change = mixture_loss - losses
        regret, variance = frozen(state.regret + change), frozen(state.variance + change * change)
        weights = log_normalised(np.log(state.prior) + log_evidence(regret, variance))
        return SquintState(state.prior, regret, variance, weights)

    def regret_bound(self, num_updates: int, prior_mass: float, num_experts: int) -> float:
        """The largest R that the potential allows; of order sqrt(T (ln ln T + ln 1/prior)).

        With J(R, V) = integral of (exp(rate R - rate^2 V) - 1) / rate, sum_i prior_i J(R_i, V_i) never exceeds 0 (their
        section 3). The other experts hold at least J(-T, T), so J(R, T) <= (1/prior - 1) |J(-T, T)|; solved by bisection.
        """
        allowance = -(1.0 / prior_mass - 1.0) * _potential(-float(num_updates), num_updates)
        low, high = 0.0, float(num_updates)
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if _potential(middle, num_updates) < allowance else (low, middle)
        return high


def log_evidence(regret: Floats, variance: Floats) -> Floats:
    """ln of the integral over rate in [0, 1/2] of exp(rate R - rate^2 V), [num_experts]: Gauss-Legendre around the peak.

    Stable where the closed form with erf is not: for R^2 / V in the thousands and for V near 0.
    """
    double = variance + variance
    # where V = 0 the exponent is a line and the peak is at an end
    peak = np.minimum(np.maximum(regret / np.maximum(double, 1e-200), 0.0), 0.5)
    slope = regret - double * peak
    steepness = np.abs(slope)
    reach = (
        2.0 * _DECAY / np.maximum(steepness + np.sqrt(steepness * steepness + 4.0 * _DECAY * variance), 4.0 * _DECAY)
    )
    low = np.maximum(peak - reach, 0.0)
    half = 0.5 * (np.minimum(peak + reach, 0.5) - low)
    away = (low + half - peak)[:, None] + half[:, None] * _NODES
    values = np.exp(away * (slope[:, None] - variance[:, None] * away)) @ _NODE_WEIGHTS
    log_integral: Floats = peak * (regret - peak * variance) + np.log(half * values)
    return log_integral


def _potential(regret: float, variance: float) -> float:
    """J(R, V), with rate = exp(s) / 2, by Simpson's rule over s in [-60, 0] (below, the integrand is exp(s) R / 2)."""
    s = np.linspace(-60.0, 0.0, 6001)
    rate = 0.5 * np.exp(s)
    # 700: beyond it the answer is "more than any allowance" either way, and exp must not overflow
    values = np.expm1(np.minimum(rate * (regret - rate * variance), 700.0))
    return float((values[0] + values[-1] + 4.0 * values[1:-1:2].sum() + 2.0 * values[2:-1:2].sum()) * 0.01 / 3.0)
