"""The sampling parameter temperature divides the logits; at 0 decoding is greedy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from hedgespec.sampling.parameter import RowCounts, SamplingParameter

if TYPE_CHECKING:
    from torch import Tensor

MIN_TEMPERATURE = 1e-6
"""A smaller temperature would overflow float32; already at this one only near-ties of the largest logit survive."""


class Temperature(SamplingParameter[float]):
    """At 0 nothing behind the stage `logits` is applied: `SamplingParams.method` is then `greedy`."""

    name = "temperature"
    accepts = Annotated[float, Field(ge=0, le=2)]
    neutral = 1.0
    stage = "scaled"

    def apply(self, rows: Tensor, value: float, counts: RowCounts | None) -> Tensor:
        return rows / max(value, MIN_TEMPERATURE)
