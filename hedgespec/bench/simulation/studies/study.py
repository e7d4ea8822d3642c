"""The result of a study: rows, notes and curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = Mapping[str, Any]

COMPARED: tuple[str, ...] = ("normalhedge", "adaptive")
"""The learners that most studies compare: the one of the HedgeSpec paper and the default."""


@dataclass(frozen=True, slots=True)
class Study:
    """The result of a study.

    notes:  what the numbers mean and what was assumed
    rows:   one per case, all with the same keys
    figure: name of a curve -> its points, for the pictures of `hedgespec bench figures`
    """

    name: str
    notes: str
    rows: Sequence[Row]
    figure: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def value(self, column: str, **where: Any) -> Any:
        """Return a column of the only row with these entries. Raises ValueError when there is not exactly one."""
        (row,) = (row for row in self.rows if all(row[key] == value for key, value in where.items()))
        return row[column]


def mean_interval(values: NDArray[np.float64], num_resamples: int = 1000) -> tuple[float, float, float]:
    """Return the mean over answers and the ends of its 95 % bootstrap interval."""
    picks = np.random.default_rng(0).integers(0, len(values), (num_resamples, len(values)))
    low, high = np.quantile(values[picks].mean(axis=1), [0.025, 0.975])
    return float(values.mean()), float(low), float(high)
