"""A bandit in place of the learner learns from the rounds that it played, one drafter at a time. A baseline.

No drafter is asked for scores, so nothing is known of those that were not chosen: no expected passes, no preferences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hedgespec.learning.experts import one_per_drafter
from hedgespec.learning.learners.checks import checked_weights
from hedgespec.learning.learners.learner import Learner
from hedgespec.learning.protocol import Floats, Mask
from hedgespec.types import Scores


class AnswerBandit:
    """`AnswerLearning` from the chosen drafter's own outcome, loss 1 - emitted / (max_draft_tokens + 1)."""

    def __init__(self, bandit: Learner[Any], prior: Floats, max_draft_tokens: int) -> None:
        self.experts = one_per_drafter(len(prior), max_draft_tokens)
        self.expert_prior = prior
        self._bandit = bandit
        self._state = bandit.init(prior)
        self._most_emitted = max_draft_tokens + 1
        self.expert_weights = bandit.weights(self._state)
        self.failure: str | None = None

    @property
    def weights(self) -> Floats:
        return self.expert_weights

    def awake(self, available: Sequence[bool]) -> Mask:
        return np.asarray(available, dtype=bool)

    def begin_round(self, round_index: int) -> None:
        """Nothing to do: every round has been learned from when it ended."""

    def verified(self, num_tokens: int, round_index: int, is_last: bool) -> None:
        """No drafter is asked for scores."""

    def played(self, drafter_index: int, num_emitted: int) -> None:
        losses = np.zeros(len(self.experts))
        losses[drafter_index] = max(0.0, 1.0 - num_emitted / self._most_emitted)
        try:
            self._state = self._bandit.update(self._state, losses, np.arange(len(losses)) == drafter_index)
            self.expert_weights = checked_weights(self._bandit.weights(self._state), len(losses))
        except Exception as error:  # a bandit of an installed package: the answer goes on with the last good weights
            self.failure = f"{type(error).__name__}: {error}"

    def add_scores(self, drafter_index: int, scores: Scores, *, more_coming: bool) -> None:
        """Scores are never asked for."""

    def add_prompt_scores(self, drafter_index: int, acceptance_prob: NDArray[np.float32], num_rows: int) -> None:
        """Scores are never asked for."""

    def mark_absent(self, drafter_index: int) -> None:
        """Nothing to do: an absent drafter is not available, so it is not chosen."""

    def finish(self) -> None:
        """Nothing is waited for."""

    def expected_passes(self) -> dict[int, float]:
        return {}

    def pass_costs(self) -> Floats:
        return np.ones(len(self.experts))

    def num_conceded(self) -> int:
        return 0
