"""AdaHedge: exponential weights whose rate follows what learning has cost so far (de Rooij et al. 2014, paper.md 4.1)."""

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
    saved_number,
)

_ROUNDING = 1e-9
"""Below this a gap is rounding: the rate would be astronomical and turn rounding into evidence."""


@dataclass(frozen=True, slots=True)
class AdaHedgeState:
    """prior, regret, weights: [num_experts]. gap: the summed mixability gap, what learning has cost beyond the mix loss."""

    prior: Floats
    regret: Floats
    gap: float
    num_updates: int
    weights: Floats


class AdaHedge:
    """w_i ~ prior_i exp(rate R_i), rate = ln N / gap; while the gap is zero, the prior over the leaders."""

    def init(self, prior: Floats) -> AdaHedgeState:
        prior = checked_prior(prior)
        return AdaHedgeState(prior, frozen(np.zeros_like(prior)), 0.0, 0, prior)

    def weights(self, state: AdaHedgeState) -> Floats:
        return state.weights

    def update(self, state: AdaHedgeState, losses: Floats, awake: Mask) -> AdaHedgeState:
        if not np.any(awake):
            return state
        complete, mixture_loss = filled_losses(losses, awake, state.weights, state.prior)
        gap = state.gap + max(0.0, mixture_loss - _mix_loss(state, complete))
        return _state(state.prior, state.regret + (mixture_loss - complete), gap, state.num_updates + 1)

    def regret_bound(self, num_updates: int, prior_mass: float, num_experts: int) -> float:
        """gap (1 + ln(1/prior) / ln N), and gap <= sqrt(T ln N / 4) + 2/3 ln N + 1: their lemma 5 and theorem 6, in which
        the variance of a loss in [0, 1] is at most 1/4 and the prior need not be uniform."""
        scale = _scale(num_experts)
        gap = math.sqrt(num_updates * scale / 4.0) + 2.0 / 3.0 * scale + 1.0
        return gap * (1.0 - math.log(prior_mass) / scale)

    def state_dict(self, state: AdaHedgeState) -> dict[str, Any]:
        return {
            "learner": "adahedge",
            "prior": state.prior.tolist(),
            "regret": state.regret.tolist(),
            "gap": state.gap,
            "num_updates": state.num_updates,
        }

    def restore(self, saved: Mapping[str, Any]) -> AdaHedgeState:
        prior, num_updates, (regret,) = saved_arrays(saved, "adahedge", "regret")
        return _state(prior, regret, saved_number(saved, "adahedge", "gap"), num_updates)


def _scale(num_experts: int) -> float:
    # one expert has nothing to learn, but the bound divides by this
    return math.log(max(num_experts, 2))


def _mix_loss(state: AdaHedgeState, losses: Floats) -> float:
    """-ln(sum_i w_i exp(-rate l_i)) / rate; at an infinite rate the least loss among the experts with weight."""
    least = float(np.minimum.reduce(losses, where=state.weights > 0.0, initial=1.0))
    if state.gap <= _ROUNDING:
        return least
    rate = _scale(losses.size) / state.gap
    # the minimum only touches experts whose weight is zero: their exponential could overflow
    return least - math.log(float(state.weights @ np.exp(np.minimum(rate * (least - losses), 0.0)))) / rate


def _state(prior: Floats, regret: Floats, gap: float, num_updates: int) -> AdaHedgeState:
    if gap <= _ROUNDING:
        leading = np.where(regret >= regret.max() - _ROUNDING, prior, 0.0)
        weights = frozen(leading / leading.sum())
    else:
        weights = log_normalised(np.log(prior) + (_scale(prior.size) / gap) * regret)
    return AdaHedgeState(prior, frozen(regret), gap, num_updates, weights)
