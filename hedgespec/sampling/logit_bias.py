"""The sampling parameter logit_bias adds a number to the logits of single tokens."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from hedgespec.config import LimitsConfig
from hedgespec.sampling.parameter import RowCounts, SamplingParameter

if TYPE_CHECKING:
    from torch import Tensor

Pairs = tuple[tuple[int, float], ...]

_TOKEN_ID = re.compile(r"0|[1-9][0-9]{0,9}")


class LogitBias(SamplingParameter[Pairs]):
    """A client sends an object {token id: bias}; the value is its (id, bias) pairs."""

    name = "logit_bias"
    accepts = dict[str, Annotated[float, Field(ge=-100, le=100)]]
    neutral = ()
    stage = "logits"

    def read(self, stated: dict[str, float], vocab_size: int, limits: LimitsConfig) -> Pairs:
        if len(stated) > limits.max_logit_bias:
            raise self.wrong(f"at most {limits.max_logit_bias} entries")
        if not all(_TOKEN_ID.fullmatch(key) and int(key) < vocab_size for key in stated):
            raise self.wrong(f"keys must be token ids from 0 to {vocab_size - 1}")
        return tuple((int(key), float(bias)) for key, bias in stated.items())

    def as_stated(self, value: Pairs) -> dict[str, Any]:
        return {str(token_id): bias for token_id, bias in value}

    def apply(self, rows: Tensor, value: Pairs, counts: RowCounts | None) -> Tensor:
        import torch

        ids = torch.tensor([token_id for token_id, _ in value], device=rows.device)
        bias = rows.new_tensor([bias for _, bias in value])
        return rows.index_add_(1, ids, bias.expand(len(rows), -1))
