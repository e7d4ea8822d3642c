"""A bandit in place of the learner: it learns from the rounds it played, one drafter at a time. A baseline.

Nobody is asked for scores, so nothing is known of the drafters that were not chosen: no expected passes, no preferences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hedgespec.learning.answer_learner import ANY_LENGTH, Floats, Mask
from hedgespec.learning.learners.learner import Learner
from hedgespec.learning.objectives import Expert
from hedgespec.types import Scores


class AnswerBandit:
    """`router.learning.Learning` from the chosen drafter's own outcome, loss 1 - emitted / (max_draft_tokens + 1)."""

    def __init__(self, learner: Learner[Any], prior: Floats, max_draft_tokens: int) -> None:
        self.experts = tuple(Expert(i, ANY_LENGTH) for i in range(len(prior)))
        self.expert_prior = prior
        self._learner = learner
        self._state = learner.init(prior)
        self._most_emitted = max_draft_tokens + 1
        self.expert_weights = learner.weights(self._state)

    @property
    def weights(self) -> Floats:
        return self.expert_weights

    def awake(self, available: Sequence[bool]) -> Mask:
        return np.asarray(available, dtype=bool)

    def mark_absent(self, drafter_index: int) -> None:
        """It will not be drawn, which is all there is to know."""

    def verified(self, num_tokens: int, round_index: int, is_last: bool) -> None:
        """Scores are never asked for."""

    def add_scores(self, drafter_index: int, scores: Scores) -> None:
        """Never asked for."""

    def add_prompt_scores(self, drafter_index: int, overlap: NDArray[np.float32], num_rows: int) -> None:
        """Never asked for."""

    def played(self, drafter_index: int, num_emitted: int) -> None:
        """Losses are in [0, 1): at most max_draft_tokens + 1 tokens come out of a round."""
        losses = np.zeros(len(self.experts))
        losses[drafter_index] = max(0.0, 1.0 - num_emitted / self._most_emitted)
        self._state = self._learner.update(self._state, losses, np.arange(len(losses)) == drafter_index)
        self.expert_weights = self._learner.weights(self._state)

    def absorb(self, round_index: int | None = None) -> None:
        """Every round has been learned from when it ended."""

    def finish(self) -> None:
        """Nothing is waited for."""

    def expected_passes(self) -> dict[int, float]:
        return {}

    def num_conceded(self) -> int:
        return 0
