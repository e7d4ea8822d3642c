"""NormalHedge with a prior: no learning rate, and weight only where the regret is positive (paper.md 4.2, DESIGN 6)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hedgespec.learning.learners.learner import Floats, Mask, checked_prior, filled_losses, frozen, saved_arrays

_NUM_STEPS = 60
"""Newton needs about six steps and bisection 53; whichever mixture the safeguard makes of them ends before this."""

_ROUNDING = 1e-9
"""A regret below this is rounding, not evidence: acting on it would move all weight to whichever expert it favours."""


@dataclass(frozen=True, slots=True)
class NormalHedgeState:
    """prior, regret, weights: [num_experts]; weights is derived from the others."""

    prior: Floats
    regret: Floats
    num_updates: int
    weights: Floats


class NormalHedge:
    """w_i ~ prior_i [R_i]+/c exp([R_i]+^2 / 2c) with c such that sum_i prior_i exp([R_i]+^2 / 2c) = e, and w = prior
    while no R_i > 0."""

    def init(self, prior: Floats) -> NormalHedgeState:
        prior = checked_prior(prior)
        return NormalHedgeState(prior, frozen(np.zeros_like(prior)), 0, prior)

    def weights(self, state: NormalHedgeState) -> Floats:
        return state.weights

    def update(self, state: NormalHedgeState, losses: Floats, awake: Mask) -> NormalHedgeState:
        if not np.logical_or.reduce(awake):
            return state
        complete, mixture_loss = filled_losses(losses, awake, state.weights, state.prior)
        regret = state.regret + (mixture_loss - complete)
        return _state(state.prior, regret, state.num_updates + 1)

    def regret_bound(self, num_updates: int, prior_mass: float, num_experts: int) -> float:
        """sqrt(3 T (1 + ln 1/prior)) + ln^2 N: the published theorem in the limit where its slack vanishes. Its
        constants for short horizons are vacuous, so this is what the contract tests hold us to, not a theorem."""
        return math.sqrt(3.0 * num_updates * (1.0 - math.log(prior_mass))) + math.log(num_experts) ** 2

    def state_dict(self, state: NormalHedgeState) -> dict[str, Any]:
        return {
            "learner": "normalhedge",
            "prior": state.prior.tolist(),
            "regret": state.regret.tolist(),
            "num_updates": state.num_updates,
        }

    def restore(self, saved: Mapping[str, Any]) -> NormalHedgeState:
        prior, num_updates, (regret,) = saved_arrays(saved, "normalhedge", "regret")
        return _state(prior, regret, num_updates)


def solve_exponent(squares: list[float], prior: list[float]) -> float:
    """The x in [1, ln((e - 1)/prior_M + 1)] with sum_i prior_i exp(x squares_i) = e: safeguarded Newton in log space.

    squares: [num_experts], ([R_i]+ / M)^2 with M the largest regret, so the largest entry is 1. In terms of the rule's
    scale, x = M^2 / 2c. The log of the sum is convex and rising in x, so Newton from the right end never overshoots;
    bisection steps in where rounding makes it leave the bracket. Plain floats, not arrays: experts are few, those with a
    positive regret fewer, and one NumPy call costs more than the whole sum.
    """
    lower = 1.0
    upper = math.log((math.e - 1.0) / prior[squares.index(max(squares))] + 1.0)
    x = upper
    # squares <= 1, so shifting by x keeps every exponential in [0, 1]; those of experts at 0 are all exp(-x)
    terms = [(mass, square - 1.0) for mass, square in zip(prior, squares, strict=True) if square > 0.0]
    mass_at_zero = sum([mass for mass, square in zip(prior, squares, strict=True) if square <= 0.0])
    for _ in range(_NUM_STEPS):
        at_zero = mass_at_zero * math.exp(-x)
        total, weighted = at_zero, -at_zero
        for mass, shifted in terms:
            term = mass * math.exp(x * shifted)
            total += term
            weighted += term * shifted
        gap = x + math.log(total) - 1.0
        if gap > 0.0:
            upper = x
        else:
            lower = x
        # the derivative of the log: sum p s e / sum p e = 1 + sum p (s - 1) e / sum p e
        proposal = x - gap / (1.0 + weighted / total)
        if abs(proposal - x) <= 1e-8 * x:
            # Newton squares the error, so this step ends at rounding
            return min(max(proposal, lower), upper)
        x = proposal if lower <= proposal <= upper else 0.5 * (lower + upper)
    return x


def normalhedge_weights(regret: Floats, prior: Floats) -> Floats:
    """[num_experts], read-only; the prior while no regret is positive."""
    regrets = regret.tolist()
    largest = max(regrets)
    if largest <= _ROUNDING:
        return prior
    masses = prior.tolist()
    ratios = [value / largest if value > 0.0 else 0.0 for value in regrets]
    squares = [ratio * ratio for ratio in ratios]
    x = solve_exponent(squares, masses)
    raw = [
        mass * ratio * math.exp(x * (square - 1.0)) if ratio > 0.0 else 0.0
        for mass, ratio, square in zip(masses, ratios, squares, strict=True)
    ]
    total = sum(raw)
    return frozen(np.array([value / total for value in raw]))


def _state(prior: Floats, regret: Floats, num_updates: int) -> NormalHedgeState:
    return NormalHedgeState(prior, frozen(regret), num_updates, normalhedge_weights(regret, prior))
