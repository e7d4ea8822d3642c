"""What the prompt says about the drafters before the first round."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hedgespec.bench.simulation.studies.priors import preferences
from hedgespec.bench.simulation.studies.study import Study
from hedgespec.bench.simulation.workbench import Workbench
from hedgespec.config import LearnerConfig
from hedgespec.learning.prompt_evidence import prompt_loss, tilted_prior

Floats = NDArray[np.float64]

LEARNERS: tuple[str, ...] = ("normalhedge", "adaptive")
LENGTHS = (8, 16, 32, 64)


def study(bench: Workbench) -> Study:
    rows = []
    for learner in LEARNERS:
        uniform = bench.summary(bench.learned_passes(learner))
        rows.append(uniform.row(learner=learner, prior="uniform", prompt_tokens=0))
        for name, length, priors in tilted_priors(bench) if has_prompt_scores(bench) else ():
            summary = bench.summary(bench.learned_passes(learner, priors=priors))
            rows.append(summary.row(learner=learner, prior=name, prompt_tokens=length))
    return Study(
        "prompt",
        "Objective rounds, shipped schedule; the prior is tilted by the drafters' scores on the last prompt "
        "tokens as served, as if they were there before the first round. Without prompt scores in the recording there are "
        "only the rows without.",
        rows,
    )


def has_prompt_scores(bench: Workbench) -> bool:
    return bool(np.isfinite(bench.recording.prompt_overlap).any())


def tilted_priors(bench: Workbench) -> Iterator[tuple[str, int, Floats]]:
    """(name of the preference, prompt tokens, priors)."""
    for length in LENGTHS:
        yield "uniform", length, tilted(bench, bench.uniform, length)
    yield "single domain", LENGTHS[-1], tilted(bench, preferences(bench, [0]), LENGTHS[-1])
    yield "wrong domain", LENGTHS[-1], tilted(bench, preferences(bench, [1]), LENGTHS[-1])


def tilted(bench: Workbench, priors: Floats, num_tokens: int) -> Floats:
    """[num_answers, num_drafters], from the last tokens of each prompt that all drafters have scored."""
    mixing = LearnerConfig().prior_mixing
    result = priors.copy()
    for answer, overlap in enumerate(bench.recording.prompt_overlap):
        known = np.isfinite(overlap).all(axis=0)
        rows = overlap[:, known][:, -num_tokens:]
        losses = {drafter: prompt_loss(own, rows.shape[1]) for drafter, own in enumerate(rows)}
        result[answer] = tilted_prior(priors[answer], losses, mixing)
    return result
