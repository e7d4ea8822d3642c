"""What the bandit baselines share: each update tells the loss of the one drafter that was played."""

from __future__ import annotations

import numpy as np

from hedgespec.errors import ConfigError, InvalidObservation
from hedgespec.learning.learners.learner import Floats, Mask, check_range, frozen


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
    weights = np.zeros(num_experts)
    weights[index] = 1.0
    return frozen(weights)


def saved_counts_fit(pulls: Floats, losses: Floats) -> None:
    """Raise InvalidObservation unless every summed loss is between 0 and the number of pulls."""
    if not ((pulls >= 0.0).all() and (losses >= 0.0).all() and (losses <= pulls + 1e-9).all()):
        raise InvalidObservation("Not a saved state of a bandit: losses and pulls do not fit together.")
