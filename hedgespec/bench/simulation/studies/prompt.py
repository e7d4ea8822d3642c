"""Prompt study: what scoring the drafters on the prompt gains before the first round."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hedgespec.bench.simulation.studies.priors import preferences
from hedgespec.bench.simulation.studies.study import COMPARED, Study
from hedgespec.bench.simulation.workbench import Workbench
from hedgespec.config import LearnerConfig
from hedgespec.learning.prior import prompt_loss, tilted_prior

Floats = NDArray[np.float64]

LENGTHS = (8, 16, 32, 64)


def study(bench: Workbench) -> Study:
    """Compare priors with and without scores of the prompt."""
    rows = []
    for learner in COMPARED:
        uniform = bench.summary(bench.learned_passes(learner))
        rows.append(uniform.row(learner=learner, prior="uniform", prompt_tokens=0))
        for name, length, priors in tilted_priors(bench) if has_prompt_scores(bench) else ():
            summary = bench.summary(bench.learned_passes(learner, priors=priors))
            rows.append(summary.row(learner=learner, prior=name, prompt_tokens=length))
    return Study(
        "prompt",
        "Objective rounds, shipped schedule; the prior is tilted by the drafters' scores on the last prompt "
        "tokens as in the server, as if they arrived before the first round. A recording without prompt scores gives only "
        "the rows with 0 prompt tokens.",
        rows,
    )


def has_prompt_scores(bench: Workbench) -> bool:
    """Tell whether the recording has scores of the prompts."""
    return bool(np.isfinite(bench.recording.prompt_overlap).any())


def tilted_priors(bench: Workbench) -> Iterator[tuple[str, int, Floats]]:
    """Yield (name of the preference, number of prompt tokens, priors tilted by them)."""
    for length in LENGTHS:
        yield "uniform", length, tilted(bench, bench.uniform, length)
    yield "single domain", LENGTHS[-1], tilted(bench, preferences(bench, [0]), LENGTHS[-1])
    yield "wrong domain", LENGTHS[-1], tilted(bench, preferences(bench, [1]), LENGTHS[-1])


def tilted(bench: Workbench, priors: Floats, num_tokens: int) -> Floats:
    """Tilt priors, [num_answers, num_drafters], by the last tokens of each prompt that all drafters have scored."""
    mixing = LearnerConfig().prior_mixing
    result = priors.copy()
    for answer, overlap in enumerate(bench.recording.prompt_overlap):
        is_scored = np.isfinite(overlap).all(axis=0)
        rows = overlap[:, is_scored][:, -num_tokens:]
        losses = {drafter: prompt_loss(own, rows.shape[1]) for drafter, own in enumerate(rows)}
        result[answer] = tilted_prior(priors[answer], losses, mixing)
    return result
