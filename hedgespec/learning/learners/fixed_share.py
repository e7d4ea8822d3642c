"""Fixed-Share returns a share of all weight to the prior in every update, for answers whose best expert changes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hedgespec.errors import ConfigError
from hedgespec.learning.learners.checks import frozen
from hedgespec.learning.learners.full_information import FullInformation
from hedgespec.learning.learners.learner import Floats, LearnerSettings


def fixed_share(settings: LearnerSettings) -> FixedShare:
    """Fixed-Share for answers of about 256 tokens with two changes."""
    return FixedShare()


@dataclass(frozen=True, slots=True)
class FixedShareState:
    """prior, weights: [num_experts]; the weights are all the memory there is."""

    prior: Floats
    weights: Floats


class FixedShare(FullInformation[FixedShareState]):
    """w' = (1 - share) w exp(-rate l) / Z + share prior (Herbster, Warmuth 1998): an expert that was bad can return
    within 1/rate losses.

    horizon, num_switches: share = num_switches / horizon, and the rate makes the bound for them smallest. Raises
    ConfigError unless 1 <= num_switches < horizon.
    """

    def __init__(self, horizon: int = 256, num_switches: int = 2) -> None:
        if not 1 <= num_switches < horizon:
            raise ConfigError(f"Fixed-Share needs 1 <= num_switches < horizon, got {num_switches} and {horizon}.")
        self._horizon = horizon
        self._num_switches = num_switches
        self._share = num_switches / horizon

    def start(self, prior: Floats) -> FixedShareState:
        return FixedShareState(prior, prior)

    def step(self, state: FixedShareState, losses: Floats, mixture_loss: float) -> FixedShareState:
        kept = state.weights * np.exp(self._rate(losses.size) * (mixture_loss - losses))
        kept *= (1.0 - self._share) / float(np.add.reduce(kept))
        kept += self._share * state.prior
        return FixedShareState(state.prior, frozen(kept))

    def regret_bound(self, num_updates: int, prior_mass: float, num_experts: int) -> float:
        return self.shifting_bound(num_updates, 0, prior_mass, num_experts)

    def shifting_bound(self, num_updates: int, num_switches: int, prior_mass: float, num_experts: int) -> float:
        """Against any sequence of experts with at least this prior mass that changes num_switches times: the log of the
        weight that the prior over such sequences gives it, over the rate, plus rate T / 8."""
        rate = self._rate(num_experts)
        log_mass = (num_switches + 1) * math.log(prior_mass) + num_switches * math.log(self._share)
        log_mass += (num_updates - 1 - num_switches) * math.log1p(-self._share)
        return -log_mass / rate + rate * num_updates / 8.0

    def _rate(self, num_experts: int) -> float:
        switches, horizon = self._num_switches, self._horizon
        entropy = -switches * math.log(self._share) - (horizon - switches) * math.log1p(-self._share)
        return math.sqrt(8.0 * ((switches + 1) * math.log(max(num_experts, 2)) + entropy) / horizon)
