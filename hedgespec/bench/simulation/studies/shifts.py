"""Shift study: passes lost on answers whose domain changes half-way, against the best drafter of each half."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np

from hedgespec.bench.simulation.hindsight import best_switch_passes
from hedgespec.bench.simulation.pools import mixed_answers
from hedgespec.bench.simulation.recording import Floats
from hedgespec.bench.simulation.studies.study import Row, Study
from hedgespec.bench.simulation.workbench import NUM_RESAMPLES, Workbench
from hedgespec.catalogue import LEARNERS
from hedgespec.learning.learners.learner import Learner
from hedgespec.learning.learners.normalhedge import NormalHedge

OBJECTIVES: tuple[str, ...] = ("rounds", "length")
DISCOUNTS = (0.995, 0.99, 0.98, 0.95, 0.9)
MAX_DEBTS = (None, 4.0, 2.0, 1.0)
"""Caps on negative regret; None is no cap."""


def study(bench: Workbench) -> Study:
    """Compare learners and objectives on answers that change domain."""
    shifted = Shifted(bench)
    rows = [shifted.row("best fixed drafter", "", shifted.mixed.best, bench.best)]
    for objective in OBJECTIVES:
        on_mixed, alone = fixed_choice(shifted.mixed, objective), fixed_choice(bench, objective)
        rows.append(shifted.row("fixed, best by its sum", objective, on_mixed, alone))
    for name in LEARNERS.names():
        rows += [shifted.learned_row(name, name, objective) for objective in OBJECTIVES]
    return Study("shifts", shifted.notes, rows)


def discount_study(bench: Workbench) -> Study:
    """Compare ways to forget, by a discount and by a cap on negative regret, with objective `rounds`."""
    shifted = Shifted(bench)
    rows = [shifted.learned_row("normalhedge", "normalhedge", "rounds", discount=1.0, max_debt=None)]
    for discount, debt in product(DISCOUNTS, MAX_DEBTS):
        learner = NormalHedge(discount, math.inf if debt is None else debt)
        rows.append(shifted.learned_row("forgetting", learner, "rounds", discount=discount, max_debt=debt))
    return Study("discount", shifted.notes, rows)


class Shifted:
    """A workbench, and another one whose answers are pairs of its answers joined half-way."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.mixed = Workbench(mixed_answers(bench.recording, bench.seed), bench.runs_each, bench.seed)
        self.switched = best_switch_passes(self.mixed.recording.acceptance, self.mixed.recording.num_tokens // 2)
        self.notes = (
            "First half of one answer, second half of one of another domain. excess: passes above the best pair of drafters "
            f"in hindsight, whose mean is {self.switched.mean():.2f}; over fixed: above the best single one. stationary: "
            "the ratio on unmixed answers. Uniform start, shipped schedule."
        )

    def learned_row(self, name: str, learner: Learner[Any] | str, objective: str, **settings: float | None) -> Row:
        """Replay a learner on mixed and unmixed answers and return its row."""
        mixed = self.mixed.learned_passes(learner, objective)
        return self.row(name, objective, mixed, self.bench.learned_passes(learner, objective), **settings)

    def row(self, name: str, objective: str, mixed: Floats, stationary: Floats, **settings: float | None) -> Row:
        """Return the row for passes on mixed answers and on unmixed (stationary) ones, each [num_answers]."""
        mean, low, high = mean_interval(mixed - self.switched)
        return {
            "learner": name,
            "objective": objective,
            **settings,
            "excess": round(mean, 3),
            "low": round(low, 3),
            "high": round(high, 3),
            "over fixed": round(float((mixed - self.mixed.best).mean()), 3),
            "stationary": round(self.bench.summary(stationary).mean, 4),
        }


def fixed_choice(bench: Workbench, objective: str) -> Floats:
    """Return the passes of the drafter with the smallest summed loss on each whole answer, [num_answers]."""
    sums = np.stack([np.sum([losses for losses, _ in own.vectors], axis=0) for own in bench.losses(objective)])
    passes: Floats = bench.fixed[np.arange(len(sums)), sums.argmin(axis=1)]
    return passes


def mean_interval(values: Floats) -> tuple[float, float, float]:
    """Return the mean over answers and the ends of its 95 % bootstrap interval."""
    picks = np.random.default_rng(0).integers(0, len(values), (NUM_RESAMPLES, len(values)))
    low, high = np.quantile(values[picks].mean(axis=1), [0.025, 0.975])
    return float(values.mean()), float(low), float(high)
