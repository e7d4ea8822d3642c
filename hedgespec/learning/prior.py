"""The prior is where a learner starts: the tenant's preference with a floor under every expert."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hedgespec.errors import InvalidObservation


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
