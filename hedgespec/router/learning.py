"""The learner of one answer: scores go in whenever they arrive, weights come out whenever a round asks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hedgespec.learners.learner import Learner
from hedgespec.speculative.feedback import Feedback
from hedgespec.speculative.objectives import Losses
from hedgespec.types import Scores


class AnswerLearner:
    """Learner state and delayed feedback of one answer (DESIGN 5, 6).

    prior: [num_drafters], sums to 1
    """

    def __init__(self, learner: Learner[Any], prior: NDArray[np.float64], feedback: Feedback) -> None:
        self.prior = prior
        self._learner = learner
        self._feedback = feedback
        self._state = learner.init(prior)
        self.weights: NDArray[np.float64] = learner.weights(self._state)

    def add_scores(self, drafter_index: int, scores: Scores) -> None:
        self._feedback.push(drafter_index, scores)

    def mark_absent(self, drafter_index: int) -> None:
        """A drafter that died or was never there: losses no longer wait for it."""
        self._feedback.mark_absent(drafter_index)

    def verified(self, num_tokens: int, round_index: int) -> None:
        """The target has emitted so many more tokens, which the drafters can now score."""
        self._feedback.verified(num_tokens, round_index)

    def absorb(self, round_index: int) -> None:
        """Step once per loss vector that is complete, or whose time has come. Runs while the target verifies."""
        self._update(self._feedback.closed_losses(round_index))

    def finish(self) -> None:
        """Close every position with whoever answered: nothing more is waited for."""
        self._update(self._feedback.finish())

    def expected_passes(self) -> dict[int, float]:
        """Drafter index -> target passes it alone would have needed; only drafters scored throughout."""
        passes = self._feedback.expected_passes()
        return {int(i): float(passes[i]) for i in np.flatnonzero(self._feedback.scored_throughout())}

    def _update(self, closed: Losses) -> None:
        for losses, awake in closed:
            self._state = self._learner.update(self._state, losses, awake)
        if closed:
            self.weights = self._learner.weights(self._state)
