"""A sampling parameter from an installed package: everything that its author has to write to add one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from hedgespec.sampling.parameter import RowCounts, SamplingParameter

if TYPE_CHECKING:
    from torch import Tensor


class MinP(SamplingParameter[float]):
    """A processor that keeps the tokens with at least this share of the largest probability."""

    name = "min_p"
    accepts = Annotated[float, Field(ge=0, le=1)]
    neutral = 0.0
    stage = "probs"

    def apply(self, rows: Tensor, value: float, counts: RowCounts | None) -> Tensor:
        return rows.masked_fill(rows < value * rows.amax(dim=-1, keepdim=True), 0.0)
