"""Baselines that learn nothing: weights that no loss can move."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hedgespec.errors import ConfigError, InvalidObservation
from hedgespec.learning.baselines.bandit import one_hot
from hedgespec.learning.learners.learner import Floats, Mask, checked_prior, filled_losses, frozen, saved_arrays


@dataclass(frozen=True, slots=True)
class ConstantState:
    """prior, weights: [num_experts]."""

    prior: Floats
    num_updates: int
    weights: Floats


class Constant(ABC):
    """What each subclass chooses once; losses are checked and counted only."""

    name: str

    @abstractmethod
    def chosen(self, prior: Floats) -> Floats:
        """The weights [num_experts] for this prior."""

    def init(self, prior: Floats) -> ConstantState:
        prior = checked_prior(prior)
        return ConstantState(prior, 0, self.chosen(prior))

    def weights(self, state: ConstantState) -> Floats:
        return state.weights

    def update(self, state: ConstantState, losses: Floats, awake: Mask) -> ConstantState:
        if not np.any(awake):
            return state
        filled_losses(losses, awake, state.weights, state.prior)
        return ConstantState(state.prior, state.num_updates + 1, state.weights)

    def regret_bound(self, num_updates: int, prior_mass: float, num_experts: int) -> float:
        """The trivial one, T."""
        return float(num_updates)

    def state_dict(self, state: ConstantState) -> dict[str, Any]:
        return {"learner": self.name, "prior": state.prior.tolist(), "num_updates": state.num_updates}

    def restore(self, saved: Mapping[str, Any]) -> ConstantState:
        prior, num_updates, _ = saved_arrays(saved, self.name)
        return ConstantState(prior, num_updates, self.chosen(prior))


class Static(Constant):
    """The prior throughout: what preferences are worth without learning within the answer."""

    name = "static"

    def chosen(self, prior: Floats) -> Floats:
        return prior


class Uniform(Constant):
    """Every drafter with the same probability in every round, whatever the prior says."""

    name = "random"

    def chosen(self, prior: Floats) -> Floats:
        return frozen(np.full(prior.size, 1.0 / prior.size))


class Fixed(Constant):
    """One drafter in every round."""

    name = "fixed"

    def __init__(self, index: int = 0) -> None:
        if index < 0:
            raise ConfigError(f"The fixed drafter is an expert's index from 0, got {index}.")
        self._index = index

    def chosen(self, prior: Floats) -> Floats:
        if self._index >= prior.size:
            raise InvalidObservation(f"Fixed drafter {self._index} is not one of {prior.size} experts.")
        return one_hot(self._index, prior.size)
