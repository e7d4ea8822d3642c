"""Where the excess passes of an answer are made."""

from __future__ import annotations

from hedgespec.bench.simulation.policies import WeightsPolicy
from hedgespec.bench.simulation.studies.policies import regret_curve
from hedgespec.bench.simulation.studies.study import Row, Study
from hedgespec.bench.simulation.workbench import SHIPPED, Workbench
from hedgespec.catalogue import LEARNERS

FIRST = (8, 16, 32, 64, 128)
EARLY = 32
SOME_EXCESS = 0.5
"""Passes per answer below which a share says nothing."""


def study(bench: Workbench) -> Study:
    rows: list[Row] = []
    curves: dict[str, list[float]] = {}
    for name in LEARNERS.names():
        curve = regret_curve(bench, bench.run(WeightsPolicy(bench.weights(name), SHIPPED)))
        excess = {f"after {n}": curve[min(n, len(curve)) - 1] for n in FIRST}
        share = round(excess[f"after {EARLY}"] / curve[-1], 3) if curve[-1] >= SOME_EXCESS else None
        rows.append({"learner": name, **excess, "at the end": curve[-1], f"share of the first {EARLY}": share})
        curves[name] = curve
    return Study(
        "early",
        "Passes above those of the answer's best fixed drafter after so many tokens, mean over answers. "
        "Objective rounds, uniform start, shipped schedule.",
        rows,
        curves,
        "output index",
    )
