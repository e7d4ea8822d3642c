"""Ratios with confidence intervals, such as tokens per pass over prompts of different lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NUM_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Ratio:
    """The sum of numerators over the sum of denominators, with a 95 % bootstrap interval over prompts."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def ratio(numerators: Sequence[float], denominators: Sequence[float], seed: int = 0) -> Ratio:
    """Return the ratio of two sums over prompts, with a percentile bootstrap interval.

    Whole prompts are resampled, because tokens of one answer depend on each other. NaN when the denominators sum to 0.
    """
    top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if len(top) == 0 or bottom.sum() <= 0.0:
        return Ratio(float("nan"), float("nan"), float("nan"))
    picks = np.random.default_rng(seed).integers(0, len(top), (NUM_RESAMPLES, len(top)))
    resampled = top[picks].sum(axis=1) / np.maximum(bottom[picks].sum(axis=1), 1e-12)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Ratio(float(top.sum() / bottom.sum()), float(low), float(high))
