"""The studies of a recording, by name; each answers one question. A study is a function from a `Workbench` to a `Study`."""

from __future__ import annotations

from collections.abc import Callable

from hedgespec.bench.simulation.studies import ablations, policies, priors, schedule, shifts, throughput, weights
from hedgespec.bench.simulation.studies.study import Study
from hedgespec.bench.simulation.workbench import Workbench

STUDIES: dict[str, Callable[[Workbench], Study]] = {
    "policies": policies.study,
    "pool_size": policies.pool_size_study,
    "shifts": shifts.study,
    "discount": shifts.discount_study,
    "priors": priors.study,
    "delay": schedule.delay_study,
    "schedule": schedule.study,
    "score_depth": schedule.score_depth_study,
    "prompt": priors.prompt_study,
    "ablations": ablations.study,
    "throughput": throughput.study,
    "early": policies.early_study,
    "weights": weights.study,
}
