"""The base of bandit baselines: each update brings the loss of the one drafter that was played, and of no other."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from hedgespec.errors import ConfigError, InvalidObservation
from hedgespec.learning.learners.checks import check_range, frozen
from hedgespec.learning.learners.full_information import LearnerBase, S
from hedgespec.learning.learners.learner import Floats, Mask


class Bandit(LearnerBase[S]):
    """Sees only the drafter that it played. An update is one round; its loss is 1 - emitted / (num_draft_tokens + 1)."""

    @abstractmethod
    def step(self, state: S, played: int, loss: float) -> S:
        """The state after a round with the expert of index `played`."""

    def update(self, state: S, losses: Floats, awake: Mask) -> S:
        """Raises InvalidObservation unless exactly one expert is awake, the one that was played."""
        if not np.any(awake):
            return state
        return self.step(state, *played_expert(losses, awake, state.prior.size))


def played_expert(losses: Floats, awake: Mask, num_experts: int) -> tuple[int, float]:
    """Index and loss of the single awake expert. Raises InvalidObservation when there is not exactly one."""
    losses, awake = np.asarray(losses, dtype=np.float64), np.asarray(awake)
    if losses.shape != (num_experts,) or awake.shape != losses.shape or awake.dtype != np.bool_:
        got = f"{losses.shape} and {awake.shape} {awake.dtype}"
        raise InvalidObservation(f"Losses and the awake mask (bool) need shape ({num_experts},), got {got}.")
    indices = np.flatnonzero(awake)
    if indices.size != 1:
        raise InvalidObservation(f"A bandit sees the loss of the one drafter it played, got {indices.size} awake.")
    check_range(losses[indices], losses)
    return int(indices[0]), float(losses[indices[0]])


def checked_draft_tokens(num_draft_tokens: int) -> int:
    """The published rules divide by the draft length. Raises ConfigError below 1."""
    if num_draft_tokens < 1:
        raise ConfigError(f"A bandit over drafters needs num_draft_tokens >= 1, got {num_draft_tokens}.")
    return num_draft_tokens


def one_hot(index: int, num_experts: int) -> Floats:
    """[num_experts], 1 at the index, read-only."""
    weights = np.zeros(num_experts)
    weights[index] = 1.0
    return frozen(weights)
