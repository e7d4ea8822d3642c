"""Scores that drafters send are checked here before anything is learned from them."""

from __future__ import annotations

from math import isnan

import numpy as np
from numpy.typing import NDArray

from hedgespec.errors import InvalidObservation

Rows = NDArray[np.float32]

MAX_ACCEPTANCE_PROB = 2.0
"""The unbiased estimate from a sparse target distribution can exceed 1, never this."""

SMALL = 64
"""Up to so many numbers are checked faster in Python than by two NumPy reductions."""

_ROUNDING = 1e-4
"""By how much float32 sums of probabilities may leave their range before we call them wrong."""


def in_range(values: Rows, num_tokens: int, depth: int, largest: float) -> Rows:
    """The values, cut to [0, largest]. Raises InvalidObservation when they miss it by more than rounding."""
    if values.ndim != 2 or len(values) != num_tokens or values.shape[1] not in (1, depth):
        raise InvalidObservation(f"Scores have shape {values.shape}, expected ({num_tokens}, {depth}) or one column.")
    if values.size == 0:
        return values
    if values.size <= SMALL:
        listed = values.ravel().tolist()
        smallest_seen, largest_seen, is_number = min(listed), max(listed), not isnan(sum(listed))
    else:
        smallest_seen, largest_seen, is_number = values.min(), values.max(), True
    # min and max of a list may overlook a NaN, its sum does not; NumPy's are NaN then and fail both comparisons
    if not (is_number and smallest_seen >= -_ROUNDING and largest_seen <= largest + _ROUNDING):
        raise InvalidObservation(f"Scores must be finite and in [0, {largest}].")
    return values if smallest_seen >= 0.0 and largest_seen <= largest else np.clip(values, 0.0, largest)
