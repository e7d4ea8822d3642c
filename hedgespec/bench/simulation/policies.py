"""Replay policies that ignore the outcomes of their own rounds: fixed, random, or following a learner's weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hedgespec.bench.simulation.recording import Floats, Ints
from hedgespec.bench.simulation.replay import Moment
from hedgespec.learning.scoring_plan import sweep

Follow = Literal["sample", "leader"]


class FixedPolicy:
    """Use one fixed expert per answer. experts: [num_answers]."""

    def __init__(self, experts: Ints) -> None:
        self._experts = experts

    def choose(self, moment: Moment) -> Ints:
        return self._experts[moment.answers]

    def played(self, moment: Moment, chosen: Ints, num_emitted: Ints) -> None:
        """Ignore the outcome."""


class RandomPolicy:
    """Draw an expert uniformly in each round."""

    def __init__(self, num_experts: int) -> None:
        self._num_experts = num_experts

    def choose(self, moment: Moment) -> Ints:
        return (moment.points * self._num_experts).astype(np.int64)

    def played(self, moment: Moment, chosen: Ints, num_emitted: Ints) -> None:
        """Ignore the outcome."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The schedule by which scores of verified tokens arrive; all drafters score in the same rounds.

    dense_rounds, every: see `learning.scoring_plan.sweep`
    delay_rounds: extra rounds until a round's scores are used; 0 uses them in the next round
    wait_rounds:  number of first rounds in which the router waits for outstanding scores
    """

    dense_rounds: int = 0
    every: int = 1
    delay_rounds: int = 0
    wait_rounds: int = 0

    def last_scored_round(self, round_index: int) -> int:
        """Return the last round whose scores from all drafters are used when round_index starts; -1 for none."""
        newest = round_index - 1 - (0 if round_index <= self.wait_rounds else self.delay_rounds)
        scored = sweep(newest, self.dense_rounds, self.every)[0] if newest >= 0 else -1
        # scores that arrived in the rounds with waiting stay
        if round_index > self.wait_rounds > 0:
            scored = max(scored, self.last_scored_round(self.wait_rounds))
        return scored


class WeightsPolicy:
    """Choose by weights that depend only on how many tokens of the answer have been scored.

    weights: [num_answers, num_tokens + 1, num_experts] from `weights_by_position`: with full information they do not
    depend on which drafter was chosen, so one pass of the learner serves all runs of an answer
    """

    def __init__(self, weights: Floats, schedule: Schedule, follow: Follow = "sample") -> None:
        self._levels = np.cumsum(weights, axis=2)
        self._leaders = weights.argmax(axis=2)
        self._schedule = schedule
        self._follow = follow
        self._ends: list[Ints] = []  # position after each round

    def choose(self, moment: Moment) -> Ints:
        last = self._schedule.last_scored_round(moment.round_index)
        scored = self._ends[last] if last >= 0 else np.zeros_like(moment.positions)
        if self._follow == "leader":
            leaders: Ints = self._leaders[moment.answers, scored]
            return leaders
        return drawn(self._levels[moment.answers, scored], moment.points)

    def played(self, moment: Moment, chosen: Ints, num_emitted: Ints) -> None:
        self._ends.append(moment.positions + num_emitted)


def drawn(levels: Floats, points: Floats) -> Ints:
    """Draw one expert per run by inverse CDF.

    levels: [num_runs, num_experts], cumulative weights; points: [num_runs] in [0, 1)
    """
    indices: Ints = (levels <= (points * levels[:, -1])[:, None]).sum(axis=1)
    return indices
