"""Where the excess passes of an answer are made."""

from __future__ import annotations

from hedgespec.bench.simulation.policies import WeightsPolicy
from hedgespec.bench.simulation.studies.policies import regret_curve
from hedgespec.bench.simulation.studies.study import Study
from hedgespec.bench.simulation.workbench import SHIPPED, Workbench, full_information_learners

FIRST = (16, 32, 64)


def study(bench: Workbench) -> Study:
    rows, curves = [], {}
    for name, learner in full_information_learners().items():
        curve = regret_curve(bench, bench.run(WeightsPolicy(bench.weights(learner), SHIPPED)))
        shares = {f"first {n}": round(curve[min(n, len(curve)) - 1] / curve[-1], 3) for n in FIRST}
        rows.append({"learner": name, "excess passes": curve[-1], **shares})
        curves[name] = curve
    return Study(
        "early",
        "Passes above the best fixed drafter's, mean over answers, and the share of them in an answer's first tokens. "
        "Objective rounds, uniform start, shipped schedule.",
        rows,
        curves,
        "output index",
    )
