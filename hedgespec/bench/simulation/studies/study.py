"""The form of every study's result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Study:
    """rows: one per case, with the same keys. figure: name of a curve -> its points, against `x`. notes: what the numbers
    mean and what was assumed."""

    name: str
    notes: str
    rows: Sequence[Row]
    figure: Mapping[str, Sequence[float]] = field(default_factory=dict)
    x: str = ""

    def value(self, column: str, **where: Any) -> Any:
        """The column of the only row with these entries."""
        (row,) = (row for row in self.rows if all(row[key] == value for key, value in where.items()))
        return row[column]


def mean_interval(values: NDArray[np.float64], num_resamples: int = 1000) -> tuple[float, float, float]:
    """The mean over answers and its 95 % bootstrap interval."""
    picks = np.random.default_rng(0).integers(0, len(values), (num_resamples, len(values)))
    low, high = np.quantile(values[picks].mean(axis=1), [0.025, 0.975])
    return float(values.mean()), float(low), float(high)
