"""Score-depth study: what exact scores of every start gain over scoring each position as if it were drafted first."""

from __future__ import annotations

from itertools import product

import numpy as np

from hedgespec.bench.simulation.policies import WeightsPolicy
from hedgespec.bench.simulation.recording import Recording
from hedgespec.bench.simulation.studies.study import COMPARED, Study
from hedgespec.bench.simulation.workbench import SHIPPED, Workbench

OBJECTIVES: tuple[str, ...] = ("rounds", "length")


def study(bench: Workbench) -> Study:
    """Compare the score depths `exact` and `depth1`."""
    scored = {"exact": bench, "depth1": Workbench(first_depth_everywhere(bench.recording), bench.runs_each, bench.seed)}
    rows = []
    for learner, objective, (depth, scores) in product(COMPARED, OBJECTIVES, scored.items()):
        summary = bench.summary(bench.passes(WeightsPolicy(scores.weights(learner, objective), SHIPPED)))
        rows.append(summary.row(learner=learner, objective=objective, score_depth=depth))
    return Study(
        "score_depth",
        "The learner sees exact scores or those of depth 1 at every depth; acceptance is the same. Uniform start, shipped "
        "schedule.",
        rows,
    )


def first_depth_everywhere(recording: Recording) -> Recording:
    """Replace the scores by those that drafters send with score_depth `depth1`."""
    columns = (
        np.repeat(rows[..., :1], recording.max_draft_tokens, axis=-1)
        for rows in (recording.acceptance, recording.acceptance_prob)
    )
    return recording.with_drafters(recording.drafter_ids, *columns)
