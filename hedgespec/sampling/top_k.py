"""The sampling parameter top_k keeps the k most probable tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from hedgespec.config import LimitsConfig
from hedgespec.sampling.parameter import RowCounts, SamplingParameter

if TYPE_CHECKING:
    from torch import Tensor


class TopK(SamplingParameter[int]):
    """Tokens that tie with the last one kept are kept too, so that the result does not depend on the order of ids."""

    name = "top_k"
    accepts = Annotated[int, Field(ge=-1)]
    neutral = 0
    stage = "scaled"

    def read(self, stated: int, vocab_size: int, limits: LimitsConfig) -> int:
        """-1 is off, as in vLLM."""
        return min(max(stated, 0), vocab_size)

    def apply(self, rows: Tensor, value: int, counts: RowCounts | None) -> Tensor:
        if value >= rows.shape[-1]:
            return rows
        last = rows.topk(value, dim=-1).values[:, -1:]
        return rows.masked_fill(rows < last, float("-inf"))
