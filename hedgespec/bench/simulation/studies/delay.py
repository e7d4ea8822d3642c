"""Late scores, and waiting for them in the first rounds."""

from __future__ import annotations

from hedgespec.bench.simulation.policies import Schedule, WeightsPolicy
from hedgespec.bench.simulation.studies.study import Study
from hedgespec.bench.simulation.workbench import Workbench

DELAYS = (0, 1, 4)
WAITS = (0, 4, 8)


def study(bench: Workbench) -> Study:
    weights = bench.weights("normalhedge")
    rows = []
    for delay in DELAYS:
        for wait in WAITS if delay else WAITS[:1]:
            passes = bench.passes(WeightsPolicy(weights, Schedule(delay_rounds=delay, wait_rounds=wait)))
            rows.append(bench.summary(passes).row(delay_rounds=delay, wait_rounds=wait))
    return Study(
        "delay",
        "NormalHedge, objective rounds, uniform start, scores of every round that arrive so many rounds late; in the first "
        "wait_rounds rounds the router waits for them.",
        rows,
    )
