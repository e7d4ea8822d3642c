"""Pool-size study: how the policies fare with 2 to 64 drafters."""

from __future__ import annotations

from hedgespec.bench.simulation.bandits import Exp3SpecPolicy, UcbSpecPolicy
from hedgespec.bench.simulation.pools import larger_pool, smaller_pool
from hedgespec.bench.simulation.recording import Recording
from hedgespec.bench.simulation.studies.policies import tuned_ucb
from hedgespec.bench.simulation.studies.study import Study
from hedgespec.bench.simulation.workbench import Workbench

SIZES = (2, 4, 8, 16, 32, 64)
RUNS_EACH = 8


def study(bench: Workbench) -> Study:
    """Compare NormalHedge and bandits over pools of every size."""
    rows = []
    for size in SIZES:
        own = Workbench(pool(bench.recording, size, bench.seed), RUNS_EACH, bench.seed)
        depth = own.recording.max_draft_tokens
        means = {
            "normalhedge": own.summary(own.learned_passes("normalhedge")).mean,
            "tuned ucb": float(str(tuned_ucb(own)["mean"])),
            "ucbspec": own.summary(own.passes(UcbSpecPolicy(size, depth))).mean,
            "exp3spec": own.summary(own.passes(Exp3SpecPolicy(size, depth))).mean,
        }
        rows.append({"drafters": size, **{name: round(mean, 4) for name, mean in means.items()}})
    return Study(
        "pool_size",
        "Mean ratio to the best fixed drafter of the pool. A pool smaller than the recorded one is drawn at random for each "
        "answer; a larger one adds perturbed mixtures of two recorded drafters. UCB is tuned for each size.",
        rows,
    )


def pool(recording: Recording, size: int, seed: int) -> Recording:
    """Return the recording with `size` drafters."""
    if size < recording.num_drafters:
        return smaller_pool(recording, size, seed)
    return larger_pool(recording, size, seed) if size > recording.num_drafters else recording
