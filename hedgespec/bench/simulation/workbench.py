"""The workbench of the studies: a recording, its best fixed drafters, cached losses and weights, and averages with
intervals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hedgespec.bench.simulation.hindsight import fixed_passes
from hedgespec.bench.simulation.learned_weights import NEVER, AnswerLosses, answer_losses, weights_by_position
from hedgespec.bench.simulation.policies import FixedPolicy, Schedule, WeightsPolicy
from hedgespec.bench.simulation.recording import Floats, Ints, Recording
from hedgespec.bench.simulation.replay import Policy, Replayed, replay
from hedgespec.bench.simulation.served import ServedAnswers, replay_served
from hedgespec.config import SpeculationConfig
from hedgespec.learning.answer_learner import AnswerLearner
from hedgespec.learning.build import make_learner
from hedgespec.learning.feedback import make_feedback
from hedgespec.learning.learners.learner import Learner

NUM_RESAMPLES = 1000

SERVED_RUNS = 2
"""Replays of an answer with the router's own learner, which is slow."""

_DEFAULTS = SpeculationConfig()

SHIPPED = Schedule(
    dense_rounds=_DEFAULTS.score_dense_rounds,
    every=_DEFAULTS.score_every,
    delay_rounds=1,
    wait_rounds=_DEFAULTS.warm_rounds,
)
"""The default schedule, with all drafters in one group as in the embedded configuration. Scores of a round are used one
round late, except in the first rounds, which wait for them."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A ratio of passes, summed over the answers of a (temperature, domain) cell, then averaged over cells.

    mean, low, high: over all cells, with a 95 % bootstrap interval over answers within their cells
    domains: domain -> mean over temperatures; temperatures: temperature -> mean over domains
    """

    mean: float
    low: float
    high: float
    domains: dict[str, float]
    temperatures: dict[str, float]

    def row(self, **first: Any) -> dict[str, Any]:
        """Return the summary as a table row after the given first columns."""
        domains = {name: round(value, 4) for name, value in self.domains.items()}
        temperatures = {f"T={name}": round(value, 4) for name, value in self.temperatures.items()}
        interval = {"mean": round(self.mean, 4), "low": round(self.low, 4), "high": round(self.high, 4)}
        return {**first, **interval, "lowest domain": min(domains.values()), **temperatures, **domains}


class Workbench:
    """A recording and what the studies compute from it.

    runs_each: replays per answer, with different luck
    fixed:     [num_answers, num_drafters], expected passes of every drafter used alone; best: [num_answers], the fewest
    """

    def __init__(self, recording: Recording, runs_each: int = 16, seed: int = 0) -> None:
        self.recording = recording
        self.runs_each = runs_each
        self.seed = seed
        self.fixed = fixed_passes(recording.acceptance)
        self.best = self.fixed.min(axis=1)
        self._losses: dict[str, list[AnswerLosses]] = {}
        self._weights: dict[tuple[str, str], Floats] = {}

    @property
    def uniform(self) -> Floats:
        """The prior without any knowledge, [num_answers, num_drafters]."""
        return np.full_like(self.fixed, 1.0 / self.recording.num_drafters)

    def losses(self, objective: str) -> list[AnswerLosses]:
        """Return the loss vectors of every answer; they are computed once."""
        if objective not in self._losses:
            shape = self.recording.num_drafters, self.recording.max_draft_tokens
            new_feedback = partial(make_feedback, objective, *shape, NEVER)
            self._losses[objective] = answer_losses(self.recording, new_feedback)
        return self._losses[objective]

    def weights(self, learner: Learner[Any] | str, objective: str = "rounds", priors: Floats | None = None) -> Floats:
        """Return `weights_by_position` of a learner; with a registered name and the uniform prior they are computed once."""
        if not isinstance(learner, str):
            return weights_by_position(self.losses(objective), learner, self.uniform if priors is None else priors)
        if priors is not None:
            return self.weights(make_learner(learner), objective, priors)
        if (learner, objective) not in self._weights:
            self._weights[learner, objective] = self.weights(make_learner(learner), objective)
        return self._weights[learner, objective]

    def run(self, policy: Policy, costs: Floats | None = None) -> Replayed:
        """Replay every answer `runs_each` times, the runs of an answer next to each other."""
        answers = np.repeat(np.arange(self.recording.num_answers), self.runs_each)
        return replay(self.recording, policy, answers, self.seed, costs)

    def passes(self, policy: Policy) -> Floats:
        """Return the mean passes of a policy, [num_answers]."""
        return self.per_answer(self.run(policy).passes)

    def per_answer(self, values: NDArray[Any]) -> Floats:
        """Average values of runs, [num_runs], over the runs of each answer, [num_answers]."""
        means: Floats = values.reshape(-1, self.runs_each).mean(axis=1)
        return means

    def domain_best(self, costs: Floats | None = None) -> Ints:
        """Return the cheapest fixed drafter over all answers of an answer's domain and temperature, [num_answers].

        costs: [num_drafters], of one round; None is 1
        """
        totals = self.fixed if costs is None else self.fixed * costs
        best = np.zeros(self.recording.num_answers, np.int64)
        for own in self._cells().values():
            best[own] = totals[own].sum(axis=0).argmin()
        return best

    def learned_passes(
        self, learner: Learner[Any] | str, objective: str = "rounds", priors: Floats | None = None
    ) -> Floats:
        """Return the mean passes when a learner's weights choose, on the shipped schedule, [num_answers]."""
        return self.passes(WeightsPolicy(self.weights(learner, objective, priors), SHIPPED))

    def served(self, new_learning: Callable[[int], AnswerLearner]) -> ServedAnswers:
        """Average SERVED_RUNS replays with the router's own learner, at the default delays.

        The luck of a few runs is taken out of the passes: the excess of the best fixed drafter's passes with the same luck
        over their expectation is subtracted, which does not change the mean.
        """
        best = FixedPolicy(self.fixed.argmin(axis=1))
        runs = []
        for seed in range(self.seed, self.seed + SERVED_RUNS):
            served = replay_served(self.recording, new_learning, seed, SHIPPED.delay_rounds, SHIPPED.wait_rounds)
            luck = replay(self.recording, best, np.arange(self.recording.num_answers), seed).passes - self.best
            runs.append(replace(served, passes=served.passes - luck))
        means = (np.mean([getattr(run, field.name) for run in runs], axis=0) for field in fields(ServedAnswers))
        return ServedAnswers(*means)

    def summary(self, used: Floats, best: Floats | None = None) -> Summary:
        """Summarise best / used, both [num_answers]. best: None is the passes of the best fixed drafter in hindsight."""
        best = self.best if best is None else best
        rng = np.random.default_rng(0)
        cells: dict[tuple[str, str], float] = {}
        resampled = []
        for cell, own in self._cells().items():
            cells[cell] = float(best[own].sum() / used[own].sum())
            picks = rng.choice(own, size=(NUM_RESAMPLES, len(own)))
            resampled.append(best[picks].sum(axis=1) / used[picks].sum(axis=1))
        low, high = np.quantile(np.mean(resampled, axis=0), [0.025, 0.975])
        return Summary(
            mean=float(np.mean(list(cells.values()))),
            low=float(low),
            high=float(high),
            domains={name: _mean_where(cells, 1, name) for name in self.recording.domain_names},
            temperatures={name: _mean_where(cells, 0, name) for name in dict.fromkeys(t for t, _ in cells)},
        )

    def _cells(self) -> dict[tuple[str, str], Ints]:
        """Return the answers of every (temperature, domain) that has any."""
        cells = {}
        for temperature in np.unique(self.recording.temperatures):
            for domain in self.recording.domain_names:
                is_own = (self.recording.temperatures == temperature) & (self.recording.domains == domain)
                if is_own.any():
                    cells[f"{temperature:g}", domain] = np.flatnonzero(is_own)
        return cells


def _mean_where(cells: dict[tuple[str, str], float], part: int, name: str) -> float:
    return float(np.mean([value for cell, value in cells.items() if cell[part] == name]))
