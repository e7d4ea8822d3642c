"""Bandit policies for the replay: they see only how many tokens the rounds of their chosen drafters emitted.

Arms are numbered like experts; every answer starts afresh, as the learners do.
"""

from __future__ import annotations

import math

import numpy as np

from hedgespec.bench.simulation.policies import drawn
from hedgespec.bench.simulation.recording import Floats, Ints
from hedgespec.bench.simulation.replay import Moment

DELTA = 0.1
"""Confidence of UCBSpec; its paper gives none."""


class UcbPolicy:
    """UCB: play the arm with the largest mean + width * sqrt(ln t / pulls), after one round of each arm.

    width:    in tokens; 0 plays the best mean so far
    discount: below 1 it forgets old outcomes
    """

    def __init__(self, num_arms: int, width: float, discount: float = 1.0) -> None:
        self._num_arms = num_arms
        self._width = width
        self._discount = discount
        self._pulls = np.zeros((0, num_arms))
        self._sums = np.zeros((0, num_arms))

    def choose(self, moment: Moment) -> Ints:
        if moment.round_index == 0:
            self._pulls = np.zeros((len(moment.answers), self._num_arms))
            self._sums = np.zeros_like(self._pulls)
        if moment.round_index < self._num_arms:
            return np.full(len(moment.answers), moment.round_index)
        means = self._sums / self._pulls
        best: Ints = (means + self._bonus(self._pulls, moment.round_index + 1)).argmax(axis=1)
        return best

    def played(self, moment: Moment, chosen: Ints, num_emitted: Ints) -> None:
        self._pulls *= self._discount
        self._sums *= self._discount
        runs = np.arange(len(chosen))
        self._pulls[runs, chosen] += 1.0
        self._sums[runs, chosen] += num_emitted

    def _bonus(self, pulls: Floats, round_number: int) -> Floats:
        # discounting forgets rounds too, so t is the number of remembered ones
        remembered = round_number if self._discount == 1.0 else pulls.sum(axis=1, keepdims=True)
        bonus: Floats = self._width * np.sqrt(np.log(np.maximum(remembered, 1.0)) / pulls)
        return bonus


class UcbSpecPolicy(UcbPolicy):
    """UCBSpec with its published confidence radius, L = max_draft_tokens (Hou et al. 2025, section 4)."""

    def __init__(self, num_arms: int, max_draft_tokens: int) -> None:
        super().__init__(num_arms, 0.0)
        self._max_draft_tokens = max_draft_tokens

    def _bonus(self, pulls: Floats, round_number: int) -> Floats:
        confidence = np.log(self._num_arms * round_number**2 * np.sqrt(1.0 + pulls) / DELTA)
        radius: Floats = self._max_draft_tokens / 2.0 * np.sqrt((1.0 + pulls) / pulls**2 * (1.0 + 2.0 * confidence))
        return radius


class Exp3SpecPolicy:
    """EXP3Spec: importance-weighted losses (L + 1 - emitted) / L at the anytime rate (Hou et al. 2025, section 5)."""

    def __init__(self, num_arms: int, max_draft_tokens: int) -> None:
        self._num_arms = num_arms
        self._max_draft_tokens = max_draft_tokens
        self._losses = np.zeros((0, num_arms))
        self._probs = np.zeros((0, num_arms))

    def choose(self, moment: Moment) -> Ints:
        if moment.round_index == 0:
            self._losses = np.zeros((len(moment.answers), self._num_arms))
        rate = math.sqrt(math.log(max(self._num_arms, 2)) / ((moment.round_index + 1) * self._num_arms))
        weights = np.exp(-rate * (self._losses - self._losses.min(axis=1, keepdims=True)))
        self._probs = weights / weights.sum(axis=1, keepdims=True)
        return drawn(np.cumsum(self._probs, axis=1), moment.points)

    def played(self, moment: Moment, chosen: Ints, num_emitted: Ints) -> None:
        runs = np.arange(len(chosen))
        loss = (self._max_draft_tokens + 1 - num_emitted) / self._max_draft_tokens
        self._losses[runs, chosen] += loss / self._probs[runs, chosen]
