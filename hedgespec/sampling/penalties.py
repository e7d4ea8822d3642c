"""Penalties lower the logits of tokens that have occurred: in prompt or answer (repetition), in the answer (the others)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from hedgespec.sampling.parameter import RowCounts, SamplingParameter

if TYPE_CHECKING:
    from torch import Tensor


class Penalty(SamplingParameter[float]):
    """A penalty on the tokens of the answer; negative ones are rewards."""

    accepts = Annotated[float, Field(ge=-2, le=2)]
    neutral = 0.0
    stage = "logits"
    reads_counts = True


class FrequencyPenalty(Penalty):
    """Subtracted once per occurrence in the answer."""

    name = "frequency_penalty"

    def apply(self, rows: Tensor, value: float, counts: RowCounts | None) -> Tensor:
        assert counts is not None
        rows[:, counts.ids] -= value * counts.num_emitted
        return rows


class PresencePenalty(Penalty):
    """Subtracted once from every token of the answer."""

    name = "presence_penalty"

    def apply(self, rows: Tensor, value: float, counts: RowCounts | None) -> Tensor:
        assert counts is not None
        rows[:, counts.ids] -= value * (counts.num_emitted > 0)
        return rows


class RepetitionPenalty(Penalty):
    """Divides positive logits of the tokens of prompt and answer and multiplies negative ones."""

    name = "repetition_penalty"
    accepts = Annotated[float, Field(gt=0, le=2)]
    neutral = 1.0

    def apply(self, rows: Tensor, value: float, counts: RowCounts | None) -> Tensor:
        assert counts is not None
        own = rows[:, counts.ids]
        weaker = (own / value).where(own > 0, own * value)
        rows[:, counts.ids] = weaker.where(counts.is_present, own)
        return rows
