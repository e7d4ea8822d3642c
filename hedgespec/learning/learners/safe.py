"""Safe learns without ever losing more than a few rounds to one named expert, by betting against it with a small capital.

Between "play the baseline" and "follow the learner" there is one number per update, the learner's gain over the baseline.
A bettor with `allowance` rounds of capital stakes a share of it on the learner; it never borrows, so it never loses more
than it had. The stakes are a mixture of constant fractions (Cover's portfolio on a grid), so the capital grows as fast as
that of the best fraction in hindsight. In the spirit of (A, B)-Prod (Sani, Neu, Lazaric 2014), without its horizon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic

import numpy as np

from hedgespec.errors import ConfigError, InvalidObservation
from hedgespec.learning.learners.checks import filled_losses, frozen
from hedgespec.learning.learners.learner import Floats, Learner, LearnerSettings, Mask, State
from hedgespec.learning.learners.normalhedge import NormalHedge, NormalHedgeState

_FRACTIONS = 0.5 ** np.arange(1, 5)
"""What shares of its capital the bettor stakes, in equal parts. Measured: bolder ones lose their part in the noise of an
answer, timid ones learn too late for it."""

_LARGEST_STAKE = 1.0 - 1e-9
"""Not 1: when all experts that the learner trusts are asleep the baseline must keep some weight."""


@dataclass(frozen=True, slots=True)
class SafeState(Generic[State]):
    """base: the learner's own state. capital: [num_fractions], in rounds, sums to the allowance at first.
    stake: weight of the learner, the rest is the baseline's. weights: [num_experts]."""

    prior: Floats
    base: State
    capital: Floats
    stake: float
    weights: Floats


def safe(settings: LearnerSettings) -> Safe[NormalHedgeState]:
    """NormalHedge that is never slower than the configured baseline by more than three rounds."""
    return Safe(NormalHedge(), settings.baseline_index)


class Safe(Generic[State]):
    """weights = stake * base weights + (1 - stake) * baseline.

    base: any learner that sees all losses. baseline_index: the expert that must not be lost to, e.g. the generic drafter.
    allowance: how far the summed loss may ever be above the baseline's, in rounds; a larger one learns faster. Raises
    ConfigError for a negative index and for an allowance that is not positive and finite.
    """

    def __init__(self, base: Learner[State], baseline_index: int = 0, allowance: float = 3.0) -> None:
        if baseline_index < 0:
            raise ConfigError(f"The baseline is an expert's index from 0, got {baseline_index}.")
        if not 0.0 < allowance < math.inf:
            raise ConfigError(f"The allowance against the baseline must be positive and finite, got {allowance}.")
        self._base = base
        self._baseline_index = baseline_index
        self._allowance = allowance

    def init(self, prior: Floats) -> SafeState[State]:
        base = self._base.init(prior)
        normalised = self._base.weights(base)
        if self._baseline_index >= normalised.size:
            raise InvalidObservation(f"Baseline {self._baseline_index} is not one of {normalised.size} experts.")
        return self._state(normalised, base, np.full(_FRACTIONS.size, self._allowance / _FRACTIONS.size))

    def weights(self, state: SafeState[State]) -> Floats:
        return state.weights

    def update(self, state: SafeState[State], losses: Floats, awake: Mask) -> SafeState[State]:
        if not np.any(awake):
            return state
        base_weights = self._base.weights(state.base)
        complete, base_loss = filled_losses(losses, awake, base_weights, state.prior)
        capital = state.capital
        if awake[self._baseline_index]:
            gain = float(complete[self._baseline_index]) - base_loss
            capital = self._settled(state, gain, float(base_weights @ awake))
        return self._state(state.prior, self._base.update(state.base, losses, awake), capital)

    def regret_bound(self, num_updates: int, prior_mass: float, num_experts: int) -> float:
        """The learner's own bound plus what the betting takes from it: allowance + max over its gain S of
        S - max_f allowance / 4 exp(f S - f^2 T), since ln(1 + x) >= x - x^2 for |x| <= 1/2. Proved while the stake is
        below 1, tested beyond: there the learner is followed fully and nothing is taken."""
        gains = np.linspace(0.0, float(num_updates), 2001)[:, None]
        exponents = np.minimum(_FRACTIONS * gains - _FRACTIONS**2 * num_updates, 700.0)
        capital = self._allowance / _FRACTIONS.size * np.exp(exponents).max(axis=1)
        # the grid of gains is this coarse, and the capital never shrinks with the gain
        taken = float((gains[:, 0] - capital).max()) + num_updates / 2000.0
        return self._base.regret_bound(num_updates, prior_mass, num_experts) + self._allowance + max(0.0, taken)

    def _settled(self, state: SafeState[State], gain: float, base_awake: float) -> Floats:
        """The capital after a bet on a gain in [-1, 1]: it changes by what the mixture really gained, no more, no less."""
        wanted = float(_FRACTIONS @ state.capital)
        if wanted <= 0.0:
            return state.capital
        stake = state.stake * base_awake
        # with experts asleep the renormalised mixture holds less of the learner than was staked
        played = stake / (stake + 1.0 - state.stake) if stake > 0.0 else 0.0
        settled: Floats = state.capital * (1.0 + _FRACTIONS * (gain * played / wanted))
        return settled

    def _state(self, prior: Floats, base: State, capital: Floats) -> SafeState[State]:
        stake = min(_LARGEST_STAKE, float(_FRACTIONS @ capital))
        weights = stake * self._base.weights(base)
        weights[self._baseline_index] += 1.0 - stake
        return SafeState(prior, base, frozen(capital), stake, frozen(weights))
