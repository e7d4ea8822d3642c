"""The base classes of learners: checks stand here once, a learner adds its sums and the weights that follow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, Protocol, TypeVar

import numpy as np

from hedgespec.learning.learners.checks import checked_prior, filled_losses
from hedgespec.learning.learners.learner import Floats, Mask


class WeightedState(Protocol):
    """prior, weights: [num_experts], both read-only."""

    @property
    def prior(self) -> Floats: ...

    @property
    def weights(self) -> Floats: ...


S = TypeVar("S", bound=WeightedState)


class LearnerBase(ABC, Generic[S]):
    """A learner whose state carries its weights."""

    @abstractmethod
    def start(self, prior: Floats) -> S:
        """The state before the first update. prior: [num_experts], checked, read-only."""

    @abstractmethod
    def regret_bound(self, num_updates: int, prior_mass: float, num_experts: int) -> float:
        """See `Learner.regret_bound`."""

    def init(self, prior: Floats) -> S:
        return self.start(checked_prior(prior))

    def weights(self, state: S) -> Floats:
        return state.weights


class FullInformation(LearnerBase[S]):
    """Sees every expert's loss; sleeping experts are given the mixture's."""

    @abstractmethod
    def step(self, state: S, losses: Floats, mixture_loss: float) -> S:
        """The state after one more loss vector. losses: [num_experts], complete; mixture_loss: of state.weights."""

    def update(self, state: S, losses: Floats, awake: Mask) -> S:
        if not np.logical_or.reduce(awake):
            return state
        complete, mixture_loss = filled_losses(losses, awake, state.weights, state.prior)
        return self.step(state, complete, mixture_loss)
