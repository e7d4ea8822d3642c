"""Which drafter proposes in the next round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hedgespec.router.learning import AnswerLearner
from hedgespec.speculative.noise import Purpose, uniforms


class Selection(Protocol):
    """Per answer. `wants_scores` says whether drafters that were not chosen are worth scoring."""

    wants_scores: bool

    def choose(self, round_index: int, available: Sequence[bool]) -> int | None:
        """Index of a drafter with available[index], or None for a round without speculation.

        The choice may depend on the past only: a look at this round's noise would bias the text.
        """
        ...


class LearnedSelection:
    """Draw the drafter from the learner's weights over those available, as the regret bound assumes."""

    wants_scores = True

    def __init__(self, learner: AnswerLearner, noise_seed: int) -> None:
        self._learner = learner
        self._noise_seed = noise_seed

    def choose(self, round_index: int, available: Sequence[bool]) -> int | None:
        mask = np.asarray(available, dtype=np.float64)
        if not mask.any():
            return None
        weights = self._learner.weights * mask
        if weights.sum() <= 0.0:  # the learner has given up all that are left: fall back to the prior
            weights = self._learner.prior * mask
        return draw(weights, self._noise_seed, round_index)


class FixedSelection:
    """A pinned drafter, or none at all."""

    wants_scores = False

    def __init__(self, index: int | None) -> None:
        self._index = index

    def choose(self, round_index: int, available: Sequence[bool]) -> int | None:
        return self._index if self._index is not None and available[self._index] else None


class RandomSelection:
    """A drafter at random each round: the baseline that learns nothing, and the harshest test of catching up."""

    wants_scores = False

    def __init__(self, noise_seed: int) -> None:
        self._noise_seed = noise_seed

    def choose(self, round_index: int, available: Sequence[bool]) -> int | None:
        mask = np.asarray(available, dtype=np.float64)
        return draw(mask, self._noise_seed, round_index) if mask.any() else None


def draw(weights: NDArray[np.float64], noise_seed: int, round_index: int) -> int:
    """Inverse-CDF draw with the session's own counter-based randomness, independent of all sampling noise."""
    cumulative = np.cumsum(weights)
    u = float(uniforms(noise_seed, round_index, Purpose.SELECT, np.zeros(1, np.int64))[0])
    return int(min(np.searchsorted(cumulative, u * cumulative[-1], side="right"), np.flatnonzero(weights)[-1]))
