"""Answers whose domain changes half-way: excess passes over the best drafter of each half."""

from __future__ import annotations

import numpy as np

from hedgespec.bench.simulation.hindsight import best_switch_passes
from hedgespec.bench.simulation.pools import mixed_answers
from hedgespec.bench.simulation.studies.study import Study, mean_interval, percent
from hedgespec.bench.simulation.workbench import Workbench, full_information_learners
from hedgespec.types import Objective

OBJECTIVES: tuple[Objective, ...] = ("rounds", "length")


def study(bench: Workbench) -> Study:
    mixed = Workbench(mixed_answers(bench.recording, bench.seed), bench.runs_each, bench.seed)
    switched = best_switch_passes(mixed.recording.acceptance, mixed.recording.num_tokens // 2)
    rows = [
        {
            "learner": "best fixed drafter",
            "objective": "",
            **percent(mean_interval(mixed.best - switched)),
            "over fixed": 0.0,
            "stationary": 1.0,
        }
    ]
    for objective in OBJECTIVES:
        chosen = fixed_choice(mixed, objective)
        rows.append(
            {
                "learner": "fixed, best by its sum",
                "objective": objective,
                **percent(mean_interval(chosen - switched)),
                "over fixed": round(float((chosen - mixed.best).mean()), 4),
                "stationary": round(bench.summary(fixed_choice(bench, objective)).mean, 4),
            }
        )
    for name, learner in full_information_learners().items():
        for objective in OBJECTIVES:
            passes = mixed.learned_passes(learner, objective)
            stationary = bench.summary(bench.learned_passes(learner, objective)).mean
            rows.append(
                {
                    "learner": name,
                    "objective": objective,
                    **percent(mean_interval(passes - switched)),
                    "over fixed": round(float((passes - mixed.best).mean()), 4),
                    "stationary": round(stationary, 4),
                }
            )
    return Study(
        "shifts",
        f"First half of one answer, second half of one of another domain. mean: passes above the best pair of drafters in "
        f"hindsight, whose mean is {switched.mean():.2f}; over fixed: above the best single one. "
        "stationary: the ratio on unmixed answers.",
        rows,
    )


def fixed_choice(bench: Workbench, objective: Objective) -> np.ndarray:
    """[num_answers]: passes of the drafter that the objective's summed losses prefer on the whole answer."""
    sums = np.stack([np.sum([losses for losses, _ in own.vectors], axis=0) for own in bench.losses(objective)])
    passes: np.ndarray = bench.fixed[np.arange(len(sums)), sums.argmin(axis=1)]
    return passes
