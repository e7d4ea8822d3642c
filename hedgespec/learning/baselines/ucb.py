"""UCB plays the drafter whose mean reward plus confidence width is largest; baselines of BanditSpec (Hou et al. 2025)."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from hedgespec.errors import ConfigError
from hedgespec.learning.baselines.bandit import Bandit, checked_draft_tokens, one_hot
from hedgespec.learning.learners.checks import frozen
from hedgespec.learning.learners.learner import Floats, LearnerSettings


def ucbspec(settings: LearnerSettings) -> UcbSpec:
    """UCBSpec as published."""
    return UcbSpec(settings.num_draft_tokens)


def ucb_tuned(settings: LearnerSettings) -> UcbSpec:
    """UCBSpec with a tenth of the published width, tuned for answers of a hundred rounds."""
    return UcbSpec(settings.num_draft_tokens, scale=0.1)


def ucb_discounted(settings: LearnerSettings) -> DiscountedUcb:
    """UCB that forgets, for drafters whose quality changes within an answer."""
    return DiscountedUcb()


@dataclass(frozen=True, slots=True)
class UcbState:
    """prior, pulls, losses, weights: [num_experts]; pulls and summed losses may be discounted. weights is one-hot."""

    prior: Floats
    pulls: Floats
    losses: Floats
    num_updates: int
    weights: Floats


class Ucb(Bandit[UcbState]):
    """Play each drafter once, then argmax of mean reward + width. Ties and the order of the first plays follow the prior,
    then the index.

    discount: of earlier rounds in pulls and losses, per round; 1 forgets nothing
    """

    discount = 1.0

    @abstractmethod
    def index_of(self, pulls: Floats, losses: Floats, num_updates: int) -> Floats:
        """Mean reward plus confidence width of every expert, [num_experts], all of them played."""

    def start(self, prior: Floats) -> UcbState:
        zeros = frozen(np.zeros_like(prior))
        return self._state(prior, zeros, zeros, 0)

    def step(self, state: UcbState, played: int, loss: float) -> UcbState:
        pulls, losses = self.discount * state.pulls, self.discount * state.losses
        pulls[played] += 1.0
        losses[played] += loss
        return self._state(state.prior, pulls, losses, state.num_updates + 1)

    def _state(self, prior: Floats, pulls: Floats, losses: Floats, num_updates: int) -> UcbState:
        # an expert whose pulls have decayed below rounding is as unknown as one that was never played
        unknown = pulls < 1e-12
        scores = np.where(unknown, prior, -1.0) if unknown.any() else self.index_of(pulls, losses, num_updates)
        best = int(np.argmax(np.where(scores == scores.max(), prior, -1.0)))
        return UcbState(prior, frozen(pulls), frozen(losses), num_updates, one_hot(best, prior.size))


class UcbSpec(Ucb):
    """Mean emitted tokens + scale * confidence (BanditSpec, UCBSpec, with the square root that its proof needs).

    scale: 1 is the published width, which is too wide for answers of a hundred rounds; smaller is tuned and without a
    theorem. failure: their delta. Raises ConfigError.
    """

    def __init__(self, num_draft_tokens: int = 5, scale: float = 1.0, failure: float = 0.1) -> None:
        if not (scale >= 0.0 and 0.0 < failure < 1.0):
            raise ConfigError(f"UCB needs scale >= 0 and failure in (0, 1), got {scale} and {failure}.")
        self._num_draft_tokens = checked_draft_tokens(num_draft_tokens)
        self._scale = scale
        self._failure = failure

    def index_of(self, pulls: Floats, losses: Floats, num_updates: int) -> Floats:
        emitted = (1.0 - losses / pulls) * (self._num_draft_tokens + 1)
        index: Floats = emitted + self._scale * self._confidence(pulls, num_updates + 1, pulls.size)
        return index

    def regret_bound(self, num_updates: int, prior_mass: float, num_experts: int) -> float:
        """With probability 1 - failure on losses of constant mean, at the published scale: N first plays, then twice the
        confidence of what is played, largest when all are played alike. The trivial T when it is below that."""
        pulls = np.arange(1, math.ceil(num_updates / num_experts) + 1, dtype=np.float64)
        widths = self._confidence(pulls, num_updates, num_experts) / (self._num_draft_tokens + 1)
        return float(min(num_updates, num_experts * (1.0 + 2.0 * widths.sum())))

    def _confidence(self, pulls: Floats, num_updates: int, num_experts: int) -> Floats:
        """(L/2) sqrt((1 + n) / n^2 (1 + 2 ln(N t^2 sqrt(1 + n) / failure))), in tokens."""
        inside = 1.0 + 2.0 * np.log(num_experts * num_updates**2 * np.sqrt(1.0 + pulls) / self._failure)
        widths: Floats = 0.5 * self._num_draft_tokens * np.sqrt((1.0 + pulls) / pulls**2 * inside)
        return widths


class DiscountedUcb(Ucb):
    """Discounted mean of 1 - loss + 2 scale sqrt(ln(sum of discounted pulls) / discounted pulls) (Garivier, Moulines
    2011, section 2).

    scale is their sqrt(xi), 0.5 or more in theory; 0.1 is tuned for answers of a hundred rounds. Raises ConfigError.
    """

    def __init__(self, discount: float = 0.95, scale: float = 0.1) -> None:
        if not (0.0 < discount < 1.0 and scale >= 0.0):
            raise ConfigError(f"Discounted UCB needs a discount in (0, 1) and scale >= 0, got {discount} and {scale}.")
        self.discount = discount
        self._scale = scale

    def index_of(self, pulls: Floats, losses: Floats, num_updates: int) -> Floats:
        width = np.sqrt(max(0.0, math.log(float(pulls.sum()))) / pulls)
        index: Floats = 1.0 - losses / pulls + 2.0 * self._scale * width
        return index

    def regret_bound(self, num_updates: int, prior_mass: float, num_experts: int) -> float:
        """The trivial one, T: with a fixed discount the exploration never ends."""
        return float(num_updates)
