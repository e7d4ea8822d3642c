"""Sleepers are drafters that are not asked for scores because their weight has been negligible for a while.

A sleeper still observes every verified token (that is cheap, and it can draft at once when it wakes) but scores nothing
and is never chosen. It wakes on a schedule, and at once when the leader's losses rise: the text has changed, and a drafter
that was bad may be good now. One that is still hopeless when it wakes soon sleeps again, twice as long each time, so that a
clear leader costs few scores. A drafter that has done better than the leader lately stays awake, whatever its weight: a
learner with a long past needs a while to follow a change. A learner gives a sleeper the mixture's loss meanwhile, and
after waking its `rounds` cursor starts afresh.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

PATIENCE = 4
"""Scoring occasions in a row with a negligible weight before a drafter falls asleep for the first time."""

LATER_PATIENCE = 3
"""The same for one that the schedule has woken: the first wakes it, the second asks for its scores, the third has them."""

LONGEST = 4
"""The longest sleep, in first sleeps."""

WINDOW = 16
"""Positions whose mean loss of the leader is compared with its mean before them."""

RECENT = 0.9
"""Share that one more position leaves of the earlier ones, in comparing a drafter with the leader: about ten of them."""

ALARM_DEVIATIONS = 3.0
"""By how many standard deviations of a window's mean it must be higher to wake all drafters (one false alarm in about a
thousand windows if losses were independent)."""


class Sleepers:
    """The sleepers of one answer.

    weight: below it a drafter's weight is negligible; wake_every_rounds: of the first sleep, 0 lets no drafter sleep;
    first_round: none falls asleep before it, since early weights say little
    """

    def __init__(self, num_drafters: int, weight: float, wake_every_rounds: int, first_round: int = 0) -> None:
        self._weight = weight
        self._first_round = first_round
        self._wake_every_rounds = wake_every_rounds
        self._idle = np.zeros(num_drafters, dtype=np.int64)  # occasions in a row with a negligible weight
        self._since = np.zeros(num_drafters, dtype=np.int64)
        self._gains = np.zeros(num_drafters)  # recent positions: the leader's loss minus the drafter's own
        self._rounds = np.full(num_drafters, wake_every_rounds)  # that the next sleep lasts
        self._patience = np.full(num_drafters, PATIENCE)
        self._alarm = LossAlarm()
        self._played_alarm = LossAlarm()
        self.awake: Mask = np.ones(num_drafters, dtype=bool)
        self.have_slept: Mask = np.zeros(num_drafters, dtype=bool)

    @property
    def is_on(self) -> bool:
        return self._wake_every_rounds > 0

    def occasion(self, weights: Floats, round_index: int) -> None:
        """Decide at the start of a sweep which drafters sleep from now on. weights: [num_drafters]."""
        if not self.is_on or round_index < self._first_round:
            return
        due = ~self.awake & (round_index - self._since >= self._rounds)
        self._wake(due)
        self._patience[due] = LATER_PATIENCE
        self._rounds[due] = np.minimum(2 * self._rounds[due], LONGEST * self._wake_every_rounds)
        negligible = weights < self._weight
        # without any weight (no speculation has it all) the one that did best lately keeps watch
        negligible[int((weights if weights.any() else np.where(self.awake, self._gains, -np.inf)).argmax())] = False
        self._idle = np.where(negligible & self.awake, self._idle + 1, 0)
        falling = (self._idle >= self._patience) & (self._gains <= 0.0)
        self.awake &= ~falling
        self.have_slept |= falling
        self._since[falling] = round_index
        self._idle[falling] = 0

    @property
    def is_alone(self) -> bool:
        """Whether all drafters but one are asleep."""
        return self.is_on and int(self.awake.sum()) == 1

    def learned(self, losses: Floats, awake: Mask, leader_loss: float) -> None:
        """One position's losses [num_drafters], read where awake. leader_loss: of the expert with most weight before it."""
        if not self.is_on:
            return
        self._gains = RECENT * self._gains + np.where(awake, leader_loss - losses, 0.0)
        if self._alarm.push(leader_loss):
            self._change()

    def played(self, num_emitted: int) -> None:
        """The leader's draft brought so many tokens: what its losses there are is known without scores."""
        for position in range(num_emitted):
            if self._played_alarm.push(float(position == 0)):
                self._change()

    def usable(self, available: Sequence[bool]) -> Mask:
        """[num_drafters]: available and awake. When every drafter that is awake is down, all wake."""
        present = np.asarray(available, dtype=bool)
        if present.any() and not (present & self.awake).any():
            self._wake(~self.awake)
        return present & self.awake

    def _change(self) -> None:
        """The text has changed: wake all, and judge everyone as at the start."""
        self._wake(~self.awake)
        self._rounds[:] = self._wake_every_rounds
        self._patience[:] = PATIENCE

    def _wake(self, who: Mask) -> None:
        self.awake |= who
        self._idle[who] = 0
        self._gains[who] = 0.0


class LossAlarm:
    """Notices that a sequence of losses in [0, 1] has become clearly larger than it used to be."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._num_before = 0
        self._sum = 0.0
        self._sum_squares = 0.0

    def push(self, loss: float) -> bool:
        """True when the mean of the last WINDOW losses is far above that of all before; then the past is forgotten."""
        if len(self._recent) == WINDOW:
            oldest = self._recent[0]
            self._num_before += 1
            self._sum += oldest
            self._sum_squares += oldest * oldest
        self._recent.append(loss)
        if self._num_before < WINDOW:
            return False
        mean = self._sum / self._num_before
        variance = max(self._sum_squares / self._num_before - mean * mean, 1.0 / (4.0 * WINDOW))
        rise = sum(self._recent) / WINDOW - mean
        if rise <= ALARM_DEVIATIONS * (variance / WINDOW) ** 0.5:
            return False
        self._recent.clear()
        self._num_before, self._sum, self._sum_squares = 0, 0.0, 0.0
        return True
