"""The result of a study: rows, notes and curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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
