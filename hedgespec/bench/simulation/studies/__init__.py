"""The studies of a recording, by name; each answers one question. A study is a function from a `Workbench` to a `Study`."""

from __future__ import annotations

from collections.abc import Callable

from hedgespec.bench.simulation.studies import (
    ablations,
    policies,
    pool_size,
    priors,
    prompt,
    schedule,
    score_depth,
    shifts,
    throughput,
    weights,
)
from hedgespec.bench.simulation.studies.study import Study
from hedgespec.bench.simulation.workbench import Workbench

STUDIES: dict[str, Callable[[Workbench], Study]] = {
    "policies": policies.study,
    "pool_size": pool_size.study,
    "shifts": shifts.study,
    "discount": shifts.discount_study,
    "priors": priors.study,
    "delay": schedule.delay_study,
    "schedule": schedule.study,
    "score_depth": score_depth.study,
    "prompt": prompt.study,
    "ablations": ablations.study,
    "throughput": throughput.study,
    "early": policies.early_study,
    "weights": weights.study,
}
