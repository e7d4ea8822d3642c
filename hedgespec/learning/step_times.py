"""Step times say how long a round with each expert takes here and now; objective `time` weighs losses with them.

One object per router serves all answers, since they wait in the same queues. A round takes a draft, a verification and the
rest (learning, emitting), and each of these is learned apart: drafts per drafter replica and draft length, verifications per
target replica and length of the verified draft, everything per load, which is the rough number of answers under way.

An estimate is the median of the last WINDOW rounds and needs two, so one stall changes nothing. What was not measured
lately is taken to be cheap (a draft as the cheapest one, a shorter verification as half of a longer one): if its scores are
good it is tried twice and then known, and if they are not, it did not matter. So nothing is drafted only to be timed, and a
drafter that was slow once is not exiled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hedgespec.learning.experts import Expert

WINDOW = 15
"""Rounds that an estimate is the median of; a change of load shows after eight."""

LIFETIME_ROUNDS = 1000
"""After so many rounds of the router under the same load a measurement no longer counts."""

CHEAPEST_VERIFY = 0.5
"""The least share of the shortest measured verification that a shorter one is taken for: reading the weights is the same."""


@dataclass(frozen=True, slots=True)
class RoundTime:
    """The seconds of one round.

    drafter_index: who was asked for a draft, None without speculation; num_asked: tokens that were asked for
    num_verified:  draft tokens in a row that were verified; 0 when the drafter had nothing to propose
    draft_s, verify_s: waited for the draft and for the verdict, transport included; rest_s: everything else
    """

    drafter_index: int | None
    num_asked: int
    num_verified: int
    draft_s: float
    verify_s: float
    rest_s: float = 0.0


class StepTimes:
    """What one router has measured, by load."""

    def __init__(self) -> None:
        self._num_answers = 0
        self._by_load: dict[int, _LoadTimes] = {}

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """One more answer is under way inside of the context."""
        self._num_answers += 1
        try:
            yield
        finally:
            self._num_answers -= 1

    @property
    def load(self) -> int:
        """0 for one answer under way, then 1 for 2, 2 for 3 and 4, 3 for 5 to 8, and so on."""
        return max(self._num_answers - 1, 0).bit_length()

    def here(self) -> _LoadTimes:
        """The times under the present load."""
        return self._by_load.setdefault(self.load, _LoadTimes())

    def nearest(self) -> _LoadTimes | None:
        """The times under the load next to the present one that rounds were measured under; None before the first round."""
        measured = [load for load, times in self._by_load.items() if times.num_rounds > 0]
        if not measured:
            return None
        return self._by_load[min(measured, key=lambda load: (abs(load - self.load), load))]


class AnswerTimes:
    """The step times of one answer: those of the replicas that it uses. drafters: [num_drafters], ids with their replica."""

    def __init__(self, times: StepTimes, drafters: Sequence[str]) -> None:
        self._times = times
        self._drafters = list(drafters)
        self._have_drafted: set[int] = set()
        self.target = ""

    @contextmanager
    def on_target(self, replica: str) -> Iterator[None]:
        """The answer is under way on this target replica inside of the context."""
        self.target = replica
        with self._times.under_way():
            yield

    def add(self, time: RoundTime) -> None:
        """Add a round. A drafter's first draft of an answer is not counted: it may read the whole prompt."""
        here = self._times.here()
        here.num_rounds += 1
        here.verify(self.target, time.num_verified).add(time.verify_s, 0, here.num_rounds)
        here.rest.add(time.rest_s, 0, here.num_rounds)
        index = time.drafter_index
        if index is None:
            return
        if index in self._have_drafted:
            drafts = here.draft(self._drafters[index], time.num_asked)
            drafts.add(time.draft_s, time.num_verified, here.num_rounds)
        self._have_drafted.add(index)

    def seconds(self, experts: Sequence[Expert]) -> NDArray[np.float64]:
        """[num_experts], the seconds of a round with each expert; all alike before the second round."""
        times = self._times.nearest()
        if times is None:
            return np.ones(len(experts))
        cheapest = times.cheapest_draft_s()
        verify_s = times.verify_table(self.target)
        rest_s = times.rest.median(times.num_rounds) or 0.0
        return np.array([rest_s + self._round_s(expert, times, cheapest, verify_s) for expert in experts])

    def _round_s(self, expert: Expert, times: _LoadTimes, cheapest: float, verify_s: Callable[[int], float]) -> float:
        length = expert.num_draft_tokens
        if expert.drafter_index is None:
            return verify_s(0)
        drafts = times.nearest_draft(self._drafters[expert.drafter_index], length)
        if drafts is None:
            return cheapest * length + verify_s(length)
        near, samples = drafts
        draft_s = (samples.median(times.num_rounds) or 0.0) * length / near
        # a drafter that often has nothing to propose has cheaper verifications
        verified = [min(own, length) for own in samples.numbers()]
        return draft_s + sum(map(verify_s, verified)) / len(verified)


class _Samples:
    """The last WINDOW durations of one thing, with a number each, and when they were taken."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, float, int]] = deque(maxlen=WINDOW)
        self._median: float | None = None

    def add(self, seconds: float, number: int, now_round: int) -> None:
        self._samples.append((now_round, seconds, number))
        self._median = None

    def median(self, now_round: int) -> float | None:
        """The lower median of the samples that still count; None before the second: the first may be a stall."""
        while self._samples and now_round - self._samples[0][0] > LIFETIME_ROUNDS:
            self._samples.popleft()
            self._median = None
        if len(self._samples) < 2:
            return None
        if self._median is None:
            ordered = sorted(seconds for _, seconds, _ in self._samples)
            self._median = ordered[(len(ordered) - 1) // 2]
        return self._median

    def numbers(self) -> list[int]:
        return [number for _, _, number in self._samples]


class _LoadTimes:
    """What was measured under one load. num_rounds: that were measured, the clock by which measurements grow old."""

    def __init__(self) -> None:
        self.num_rounds = 0
        self.rest = _Samples()
        self._verify: dict[str, dict[int, _Samples]] = {}
        self._draft: dict[str, dict[int, _Samples]] = {}

    def verify(self, target: str, length: int) -> _Samples:
        return self._verify.setdefault(target, {}).setdefault(length, _Samples())

    def draft(self, drafter: str, length: int) -> _Samples:
        return self._draft.setdefault(drafter, {}).setdefault(length, _Samples())

    def verify_table(self, target: str) -> Callable[[int], float]:
        """Draft length -> seconds of its verification on this replica, or on another one before it was measured."""
        for measured in (self._medians(self._verify.get(target, {})), *map(self._medians, self._verify.values())):
            if measured:
                return lambda length: _verify_s(measured, length)
        return lambda length: 1.0

    def nearest_draft(self, drafter: str, length: int) -> tuple[int, _Samples] | None:
        """The measured length that is nearest (the shorter one on ties) with its drafts; None before it is known."""
        own = self._draft.get(drafter, {})
        measured = self._medians(own)
        if not measured:
            return None
        near = min(measured, key=lambda other: (abs(other - length), other))
        return near, own[near]

    def cheapest_draft_s(self) -> float:
        """Seconds per token of the cheapest draft of any drafter; 0 before one is known."""
        measured = [self._medians(own) for own in self._draft.values()]
        return min((seconds / length for own in measured for length, seconds in own.items()), default=0.0)

    def _medians(self, by_length: dict[int, _Samples]) -> dict[int, float]:
        medians = {length: samples.median(self.num_rounds) for length, samples in by_length.items()}
        return {length: median for length, median in medians.items() if median is not None}


def _verify_s(measured: dict[int, float], length: int) -> float:
    """Linear in the verified rows (length + 1) between measured lengths; at least a share of the shortest below them, and
    as long as the longest above."""
    if length in measured:
        return measured[length]
    below = max((other for other in measured if other < length), default=None)
    above = min((other for other in measured if other > length), default=None)
    if above is None:
        assert below is not None
        return measured[below]
    if below is None:
        return measured[above] * max(CHEAPEST_VERIFY, (length + 1) / (above + 1))
    share = (length - below) / (above - below)
    return (1.0 - share) * measured[below] + share * measured[above]
