"""Learners check their priors and losses here, and fill in the losses of sleeping experts."""

from __future__ import annotations

import numpy as np

from hedgespec.errors import InvalidObservation
from hedgespec.learning.learners.learner import Floats, Mask


def checked_prior(prior: Floats) -> Floats:
    """The prior as a read-only float64 copy that sums to 1. Raises InvalidObservation."""
    checked = np.array(prior, dtype=np.float64)
    if checked.ndim != 1 or checked.size == 0:
        raise InvalidObservation(f"A prior is one number per expert, at least one, got shape {checked.shape}.")
    if not (np.isfinite(checked).all() and (checked > 0).all()):
        raise InvalidObservation("Every expert needs a finite, positive prior mass; use mixed_prior to give it some.")
    checked /= checked.sum()
    return frozen(checked)


def checked_weights(weights: Floats, num_experts: int) -> Floats:
    """The weights. Raises InvalidObservation unless they are [num_experts], non-negative and sum to 1."""
    # a NaN fails every comparison
    if weights.shape != (num_experts,) or not (weights.min() >= 0.0 and abs(float(weights.sum()) - 1.0) < 1e-6):
        raise InvalidObservation(f"A learner's weights must be {num_experts} shares that sum to 1, got {weights}.")
    return weights


def filled_losses(losses: Floats, awake: Mask, weights: Floats, prior: Floats) -> tuple[Floats, float]:
    """The complete loss vector [num_experts] and the mixture's loss: sleeping experts are given the mixture's loss.

    The mixture is the weights renormalised over the awake experts; where they have no weight at all it is the prior,
    which is what the router falls back to as well. At least one expert must be awake. Raises InvalidObservation.
    """
    losses = np.asarray(losses, dtype=np.float64)
    awake = np.asarray(awake)
    if losses.shape != weights.shape or awake.shape != weights.shape or awake.dtype != np.bool_:
        got = f"{losses.shape} and {awake.shape} {awake.dtype}"
        raise InvalidObservation(f"Losses and the awake mask (bool) need shape {weights.shape}, got {got}.")
    if np.logical_and.reduce(awake):
        total = float(np.add.reduce(weights))
        check_range(losses, losses)
        mixture_loss = float((weights if total > 0.0 else prior) @ losses) / (total if total > 0.0 else 1.0)
        return losses, mixture_loss
    known = np.where(awake, losses, 0.0)
    check_range(known, losses)
    mixture = np.where(awake, weights, 0.0)
    total = float(mixture.sum())
    if total <= 0.0:
        mixture = np.where(awake, prior, 0.0)
        total = float(mixture.sum())
    mixture_loss = float(mixture @ known) / total
    return np.where(awake, known, mixture_loss), mixture_loss


def check_range(known: Floats, losses: Floats) -> None:
    """Raise InvalidObservation unless all of `known` is in [0, 1]; `losses` is what the message shows."""
    # a NaN fails both comparisons, hence the negation; the ufunc's reduce is what ndarray.min calls, at half the time
    if not (np.minimum.reduce(known) >= 0.0 and np.maximum.reduce(known) <= 1.0):
        raise InvalidObservation(f"Losses must be finite and in [0, 1], got {losses.tolist()}.")


def log_normalised(log_weights: Floats) -> Floats:
    """exp(log_weights) scaled to sum to 1, read-only; the largest is shifted to 0 first, so nothing overflows."""
    weights = np.exp(log_weights - np.maximum.reduce(log_weights))
    weights /= np.add.reduce(weights)
    return frozen(weights)


def frozen(array: Floats) -> Floats:
    """Mark as read-only: states share arrays, and a caller that wrote into one would change another session's past."""
    array.flags.writeable = False
    return array
