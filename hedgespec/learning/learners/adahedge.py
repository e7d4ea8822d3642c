"""AdaHedge sets the rate of exponential weights by what learning has cost so far (de Rooij et al. 2014)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hedgespec.learning.learners.checks import frozen, log_normalised
from hedgespec.learning.learners.full_information import FullInformation
from hedgespec.learning.learners.learner import Floats, LearnerSettings

_ROUNDING = 1e-9
"""Below this a gap is rounding: the rate would be astronomical and turn rounding into evidence."""


def adahedge(settings: LearnerSettings) -> AdaHedge:
    """AdaHedge, which needs no settings."""
    return AdaHedge()


@dataclass(frozen=True, slots=True)
class AdaHedgeState:
    """prior, regret, weights: [num_experts]. gap: the summed mixability gap, what learning has cost beyond the mix loss."""

    prior: Floats
    regret: Floats
    gap: float
    weights: Floats


class AdaHedge(FullInformation[AdaHedgeState]):
    """w_i ~ prior_i exp(rate R_i), rate = ln N / gap; while the gap is zero, the prior over the leaders."""

    def start(self, prior: Floats) -> AdaHedgeState:
        return AdaHedgeState(prior, frozen(np.zeros_like(prior)), 0.0, prior)

    def step(self, state: AdaHedgeState, losses: Floats, mixture_loss: float) -> AdaHedgeState:
        gap = state.gap + max(0.0, mixture_loss - _mix_loss(state, losses))
        regret = frozen(state.regret + (mixture_loss - losses))
        return AdaHedgeState(state.prior, regret, gap, _weights(state.prior, regret, gap))

    def regret_bound(self, num_updates: int, prior_mass: float, num_experts: int) -> float:
        """gap (1 + ln(1/prior) / ln N), and gap <= sqrt(T ln N / 4) + 2/3 ln N + 1: their lemma 5 and theorem 6, in which
        the variance of a loss in [0, 1] is at most 1/4 and the prior need not be uniform."""
        scale = _scale(num_experts)
        gap = math.sqrt(num_updates * scale / 4.0) + 2.0 / 3.0 * scale + 1.0
        return gap * (1.0 - math.log(prior_mass) / scale)


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


def _weights(prior: Floats, regret: Floats, gap: float) -> Floats:
    if gap > _ROUNDING:
        return log_normalised(np.log(prior) + (_scale(prior.size) / gap) * regret)
    leading = np.where(regret >= regret.max() - _ROUNDING, prior, 0.0)
    return frozen(leading / leading.sum())
