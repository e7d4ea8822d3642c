"""What a learner is: a pure function from a loss vector per verified position to weights over the drafters.

A learner owns no state and draws no randomness, so one object serves every session. Losses are full information: one
number per expert and position, in [0, 1] (DESIGN 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from hedgespec.errors import InvalidObservation

State = TypeVar("State")

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Learner(Protocol[State]):
    """Weights over experts that are nearly as good as the best expert in hindsight."""

    def init(self, prior: Floats) -> State:
        """Start from a prior. prior: [num_experts], each entry positive (see `mixed_prior`); normalised here.

        Raises InvalidObservation when it is empty or not positive.
        """
        ...

    def weights(self, state: State) -> Floats:
        """[num_experts], non-negative, sums to 1; the prior itself before the first update. Read-only."""
        ...

    def update(self, state: State, losses: Floats, awake: Mask) -> State:
        """Take in one loss vector and return the new state.

        losses: [num_experts] in [0, 1], read only where awake. awake: [num_experts]; an expert that is not awake gets
        the mixture's loss, so sleeping neither helps nor hurts it.
        Raises InvalidObservation for a wrong shape and for non-finite or out-of-range losses; the state is unchanged.
        """
        ...

    def regret_bound(self, num_updates: int, prior_mass: float, num_experts: int) -> float:
        """How far the mixture's summed loss can be above an expert's with this prior mass, over its awake updates."""
        ...

    def state_dict(self, state: State) -> dict[str, Any]:
        """JSON-able; `restore` gives back a state with bitwise equal weights."""
        ...

    def restore(self, saved: Mapping[str, Any]) -> State:
        """Raises InvalidObservation when the saved state is not one of this learner."""
        ...


def checked_prior(prior: Floats) -> Floats:
    """The prior as a read-only float64 copy that sums to 1. Raises InvalidObservation."""
    checked = np.array(prior, dtype=np.float64)
    if checked.ndim != 1 or checked.size == 0:
        raise InvalidObservation(f"A prior is one number per expert, at least one, got shape {checked.shape}.")
    if not (np.isfinite(checked).all() and (checked > 0).all()):
        raise InvalidObservation("Every expert needs a finite, positive prior mass; use mixed_prior to give it some.")
    checked /= checked.sum()
    return frozen(checked)


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


def saved_arrays(saved: Mapping[str, Any], learner: str, *names: str) -> tuple[Floats, int, list[Floats]]:
    """prior, number of updates and the named arrays [num_experts] of a `state_dict`. Raises InvalidObservation."""
    try:
        if saved["learner"] != learner:
            raise ValueError(f"it belongs to {saved['learner']!r}")
        prior = np.array(saved["prior"], dtype=np.float64)
        arrays = [np.array(saved[name], dtype=np.float64) for name in names]
        num_updates = int(saved["num_updates"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidObservation(f"Not a saved state of {learner}: {error}.") from error
    checked_prior(prior)
    fits = abs(prior.sum() - 1.0) <= 1e-9 and num_updates >= 0
    if not (fits and all(array.shape == prior.shape and np.isfinite(array).all() for array in arrays)):
        fields = ", ".join(("prior", "num_updates", *names))
        raise InvalidObservation(f"Not a saved state of {learner}: {fields} do not fit together.")
    # not normalised again, which could change the last bit of a state that must come back exactly
    return frozen(prior), num_updates, [frozen(array) for array in arrays]


def saved_number(saved: Mapping[str, Any], learner: str, name: str) -> float:
    """A finite, non-negative number of a `state_dict`. Raises InvalidObservation."""
    try:
        value = float(saved[name])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidObservation(f"Not a saved state of {learner}: {error}.") from error
    if not 0.0 <= value < float("inf"):
        raise InvalidObservation(f"Not a saved state of {learner}: {name} is {value}.")
    return value


def frozen(array: Floats) -> Floats:
    """Mark as read-only: states share arrays, and a caller that wrote into one would change another session's past."""
    array.flags.writeable = False
    return array
