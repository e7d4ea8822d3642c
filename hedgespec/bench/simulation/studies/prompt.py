"""What the prompt says about the drafters before the first round."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hedgespec.bench.simulation.studies.priors import preferences
from hedgespec.bench.simulation.studies.study import Study
from hedgespec.bench.simulation.workbench import Workbench
from hedgespec.config import LearnerConfig
from hedgespec.router.prompt_evidence import prompt_loss, tilted_prior

Floats = NDArray[np.float64]

LENGTHS = (8, 16, 32, 64)


def study(bench: Workbench) -> Study:
    rows = [bench.summary(bench.learned_passes("normalhedge")).row(prior="uniform", prompt_tokens=0)]
    if has_prompt_scores(bench):
        bases = {"uniform": bench.uniform, "single domain": preferences(bench, [0]), "wrong": preferences(bench, [1])}
        for name, base in bases.items():
            for length in LENGTHS if name == "uniform" else LENGTHS[-1:]:
                passes = bench.learned_passes("normalhedge", priors=tilted(bench, base, length))
                rows.append(bench.summary(passes).row(prior=name, prompt_tokens=length))
    return Study(
        "prompt",
        "NormalHedge, objective rounds, shipped schedule; the prior is tilted by the drafters' scores on the last prompt "
        "tokens as served, as if they were there before the first round. Without prompt scores in the recording there is "
        "only the first row.",
        rows,
    )


def has_prompt_scores(bench: Workbench) -> bool:
    return bool(np.isfinite(bench.recording.prompt_overlap).any())


def tilted(bench: Workbench, priors: Floats, num_tokens: int) -> Floats:
    """[num_answers, num_drafters]; a drafter without a score for some token of a prompt counts as silent on it."""
    mixing = LearnerConfig().prior_mixing
    result = priors.copy()
    for answer, overlap in enumerate(bench.recording.prompt_overlap):
        known = np.isfinite(overlap).all(axis=0)
        rows = overlap[:, known][:, -num_tokens:]
        losses = {drafter: prompt_loss(own, rows.shape[1]) for drafter, own in enumerate(rows)}
        result[answer] = tilted_prior(priors[answer], losses, mixing)
    return result
