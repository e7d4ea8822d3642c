"""Prompt evidence tilts the learner's prior before the first round, by how well drafters predict the prompt.

Every drafter scores the last prompt tokens by its acceptance probability at depth 1, sum_x min(p, q). Prompts are only
somewhat like their answers, so this is discounted evidence: the prior is multiplied by exp(-RATE * sum of discounted
(1 - acceptance_prob)) and then mixed with the uniform one again. It never enters as rounds of the learner: a wrong prior
costs a bounded number of rounds, wrong rounds would cost as many again to be outweighed (design 6).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hedgespec.errors import InvalidObservation
from hedgespec.learning.prior import mixed_prior

Floats = NDArray[np.float64]

RATE = 0.5
DISCOUNT = 0.95
"""Per prompt token: the last ones count most. The discounted sum of losses is at most 1 / (1 - DISCOUNT) = 20, so that
the largest tilt is exp(-10); what keeps a drafter in play is the mixing afterwards."""


def prompt_loss(acceptance_prob: NDArray[np.float32], num_rows: int) -> float:
    """The discounted sum of 1 - acceptance_prob. acceptance_prob: [num_rows]. Raises InvalidObservation."""
    if acceptance_prob.shape != (num_rows,):
        raise InvalidObservation(f"Prompt scores have shape {acceptance_prob.shape}, expected ({num_rows},).")
    if not (
        acceptance_prob.min(initial=0.0) >= -1e-4 and acceptance_prob.max(initial=0.0) <= 1.0 + 1e-4
    ):  # a NaN fails too
        raise InvalidObservation("Prompt scores must be finite and in [0, 1].")
    ages = np.arange(num_rows - 1, -1, -1, dtype=np.float64)
    return float(DISCOUNT**ages @ np.clip(1.0 - acceptance_prob.astype(np.float64), 0.0, 1.0))


def tilted_prior(prior: Floats, losses: Mapping[int, float], mixing: float) -> Floats:
    """prior: [num_drafters], sums to 1; losses: drafter index -> `prompt_loss`.

    Drafters that have not answered keep their mass, as if they had lost what the others lost together. mixing: share of
    the uniform prior in the result.
    """
    if len(losses) < 2:  # one answer compares nothing
        return prior
    answered = np.fromiter(losses.keys(), dtype=np.int64)
    values = np.fromiter(losses.values(), dtype=np.float64)
    tilt = prior[answered] * np.exp(-RATE * (values - values.min()))
    tilted = prior.copy()
    tilted[answered] = prior[answered].sum() * tilt / tilt.sum()
    return mixed_prior(tilted, mixing)
