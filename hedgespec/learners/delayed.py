"""Feedback that arrives a known number of updates late, for any learner (paper.md 4.6).

Updating on arrival needs no wrapper: call `update` when a vector is complete. The queue of Joulani et al. for stochastic
losses (QPM-D) is the same thing under full information in order: it steps once per vector and repeats its weights meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np

from hedgespec.errors import ConfigError, InvalidObservation
from hedgespec.learners.learner import Floats, Learner, Mask, State, frozen


def _checked_delay(delay: int) -> int:
    if delay < 0:
        raise ConfigError(f"A delay is a number of outstanding updates, at least 0, got {delay}.")
    return delay


@dataclass(frozen=True, slots=True)
class PooledState(Generic[State]):
    """copies: delay + 1 states of the base learner, used in turn."""

    copies: tuple[State, ...]
    num_updates: int


class Pooled(Generic[State]):
    """BOLD (Joulani, Gyorgy, Szepesvari 2013) for a constant delay: delay + 1 copies of the base take turns, so that each
    sees its own loss before it chooses again.

    The loss of position t arrives when position t + delay has been chosen, hence position t belongs to copy t modulo
    (delay + 1), which is the one updated last.
    """

    def __init__(self, base: Learner[State], delay: int) -> None:
        self._base = base
        self._delay = _checked_delay(delay)

    def init(self, prior: Floats) -> PooledState[State]:
        return PooledState((self._base.init(prior),) * (self._delay + 1), 0)

    def weights(self, state: PooledState[State]) -> Floats:
        return self._base.weights(state.copies[(state.num_updates - 1) % len(state.copies)])

    def update(self, state: PooledState[State], losses: Floats, awake: Mask) -> PooledState[State]:
        turn = state.num_updates % len(state.copies)
        updated = self._base.update(state.copies[turn], losses, awake)
        # a vector without an awake expert uses up a turn as well: it belonged to a position
        copies = (*state.copies[:turn], updated, *state.copies[turn + 1 :])
        return PooledState(copies, state.num_updates + 1)

    def regret_bound(self, num_updates: int, prior_mass: float, num_experts: int) -> float:
        """(delay + 1) times the base's bound for its share of the updates, when the losses really come this late."""
        share = math.ceil(num_updates / (self._delay + 1))
        return (self._delay + 1) * self._base.regret_bound(share, prior_mass, num_experts)

    def state_dict(self, state: PooledState[State]) -> dict[str, Any]:
        return {
            "learner": "pooled",
            "copies": [self._base.state_dict(copy) for copy in state.copies],
            "num_updates": state.num_updates,
        }

    def restore(self, saved: Mapping[str, Any]) -> PooledState[State]:
        try:
            if saved["learner"] != "pooled" or len(saved["copies"]) != self._delay + 1 or int(saved["num_updates"]) < 0:
                raise ValueError(f"it has another form than {self._delay + 1} copies")
            return PooledState(tuple(map(self._base.restore, saved["copies"])), int(saved["num_updates"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidObservation(f"Not a saved state of pooled: {error}.") from error


@dataclass(frozen=True, slots=True)
class OptimisticState(Generic[State]):
    """base: what has really arrived. hinted: base after `delay` copies of the last vector. last: losses, awake mask."""

    base: State
    hinted: State
    last: tuple[Floats, Mask] | None


class Optimistic(Generic[State]):
    """Choose as if every outstanding loss vector were the last one that arrived (the hints of Flaspohler et al. 2021).

    An update costs delay + 1 updates of the base.
    """

    def __init__(self, base: Learner[State], delay: int) -> None:
        self._base = base
        self._delay = _checked_delay(delay)

    def init(self, prior: Floats) -> OptimisticState[State]:
        base = self._base.init(prior)
        return OptimisticState(base, base, None)

    def weights(self, state: OptimisticState[State]) -> Floats:
        return self._base.weights(state.hinted)

    def update(self, state: OptimisticState[State], losses: Floats, awake: Mask) -> OptimisticState[State]:
        if not np.any(awake):
            return state
        base = self._base.update(state.base, losses, awake)
        # copied: the caller may reuse its arrays, and the last vector is needed again after a restart
        return self._state(base, (frozen(np.where(awake, losses, 0.0)), np.array(awake)))

    def regret_bound(self, num_updates: int, prior_mass: float, num_experts: int) -> float:
        """(delay + 1) times the base's bound plus the delay: wrong hints move the weights by so many steps at once, and
        losses that turn about as fast as they arrive do make them wrong. Updating on arrival is held to the root of that.
        Tested, not proved."""
        return (self._delay + 1) * self._base.regret_bound(num_updates, prior_mass, num_experts) + self._delay

    def state_dict(self, state: OptimisticState[State]) -> dict[str, Any]:
        last = None if state.last is None else [state.last[0].tolist(), state.last[1].tolist()]
        return {"learner": "optimistic", "base": self._base.state_dict(state.base), "last": last}

    def restore(self, saved: Mapping[str, Any]) -> OptimisticState[State]:
        try:
            if saved["learner"] != "optimistic":
                raise ValueError(f"it belongs to {saved['learner']!r}")
            base, last = self._base.restore(saved["base"]), saved["last"]
            arrays = None if last is None else (np.array(last[0], np.float64), np.array(last[1], np.bool_))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InvalidObservation(f"Not a saved state of optimistic: {error}.") from error
        return self._state(base, arrays)

    def _state(self, base: State, last: tuple[Floats, Mask] | None) -> OptimisticState[State]:
        hinted = base
        if last is not None:
            for _ in range(self._delay):
                hinted = self._base.update(hinted, *last)
        return OptimisticState(base, hinted, last)
