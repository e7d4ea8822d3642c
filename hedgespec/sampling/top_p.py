"""The sampling parameter top_p keeps the smallest set of tokens that have at least this probability together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from hedgespec.sampling.parameter import RowCounts, SamplingParameter

if TYPE_CHECKING:
    from torch import Tensor

PREFIXES = (256, 4096)
"""So many of the largest probabilities are tried before a row is sorted whole: a long sort costs milliseconds."""


class TopP(SamplingParameter[float]):
    """Tokens that tie with the last one kept are kept too, so that the result does not depend on the order of ids."""

    name = "top_p"
    accepts = Annotated[float, Field(gt=0, le=1)]
    neutral = 1.0
    stage = "probs"

    def apply(self, rows: Tensor, value: float, counts: RowCounts | None) -> Tensor:
        return rows.masked_fill(rows < _smallest_kept(rows, value), 0.0)


def _smallest_kept(probs: Tensor, top_p: float, prefixes: tuple[int, ...] = PREFIXES) -> Tensor:
    """Return the smallest probability inside the set of every row: [rows, vocab] -> [rows, 1]."""
    vocab = probs.shape[-1]
    # on other devices than the CPU, asking how far the set reaches would wait for the device
    is_whole = not prefixes or prefixes[0] >= vocab or not probs.is_cpu
    largest = probs.sort(dim=-1, descending=True).values if is_whole else probs.topk(prefixes[0], dim=-1).values
    mass = largest.double().cumsum(dim=-1)
    num_kept = (mass < top_p).sum(dim=-1, keepdim=True) + 1
    smallest = largest.gather(-1, num_kept.clamp(max=largest.shape[-1]) - 1)
    too_short = num_kept.squeeze(-1) > largest.shape[-1]
    if not is_whole and bool(too_short.any()):
        smallest[too_short] = _smallest_kept(probs[too_short], top_p, prefixes[1:])
    return smallest
