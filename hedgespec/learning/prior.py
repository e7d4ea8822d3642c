"""The prior is where a learner starts: the tenant's preference with a floor under every expert, tilted by the prompt.

With `prompt_scores` every drafter scores the last prompt tokens by its acceptance probability at depth 1,
sum_x min(p, q). Prompts are only somewhat like their answers, so this is discounted evidence: the prior is multiplied by
exp(-RATE * sum of discounted (1 - acceptance_prob)) and then mixed with the uniform one again. It never enters as rounds
of the learner: a wrong prior costs a bounded number of rounds, wrong rounds would cost as many again to be outweighed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hedgespec.errors import InvalidObservation

Floats = NDArray[np.float64]

RATE = 0.5
DISCOUNT = 0.95
"""Per prompt token: the last ones count most. The discounted sum of losses is at most 1 / (1 - DISCOUNT) = 20, so that
the largest tilt is exp(-10); what keeps a drafter in play is the mixing afterwards."""


def mixed_prior(preference: NDArray[np.float64], mixing: float) -> NDArray[np.float64]:
    """(1 - mixing) * preference + mixing * uniform, so that no expert starts without mass.

    preference: [num_experts], non-negative with a positive sum; mixing in (0, 1]. Raises InvalidObservation.
    """
    preference = np.asarray(preference, dtype=np.float64)
    if preference.ndim != 1 or preference.size == 0:
        raise InvalidObservation(f"A preference is one number per drafter, got shape {preference.shape}.")
    if not (np.isfinite(preference).all() and (preference >= 0).all() and preference.sum() > 0):
        raise InvalidObservation(f"A preference is finite, non-negative and not all zero, got {preference.tolist()}.")
    if not 0.0 < mixing <= 1.0:
        raise InvalidObservation(f"Prior mixing must be in (0, 1], got {mixing}.")
    mixed: NDArray[np.float64] = (1.0 - mixing) * preference / preference.sum() + mixing / preference.size
    return mixed


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
