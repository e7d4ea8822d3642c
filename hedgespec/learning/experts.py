"""An expert is what a learner chooses among: a drafter, a drafter with one draft length, or no speculation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Expert:
    """A drafter with the most tokens that it may draft in a row, or (None, 0): no speculation."""

    drafter_index: int | None
    num_draft_tokens: int


def one_per_drafter(num_drafters: int, max_draft_tokens: int) -> tuple[Expert, ...]:
    """The usual experts: every drafter, as long as a round allows."""
    return tuple(Expert(index, max_draft_tokens) for index in range(num_drafters))


def per_drafter(experts: Sequence[Expert], weights: Floats, num_drafters: int) -> Floats:
    """[num_experts] -> [num_drafters]: summed over each drafter's draft lengths, no speculation left out."""
    summed = np.zeros(num_drafters)
    for expert, weight in zip(experts, weights, strict=True):
        if expert.drafter_index is not None:
            summed[expert.drafter_index] += weight
    return summed


def per_expert(experts: Sequence[Expert], prior: Floats) -> Floats:
    """[num_drafters] -> [num_experts]: a drafter's prior mass shared by its draft lengths; no speculation gets as much as
    an average expert."""
    counts = np.bincount([e.drafter_index for e in experts if e.drafter_index is not None], minlength=len(prior))
    num_none = sum(e.drafter_index is None for e in experts)
    left = 1.0 - num_none / len(experts)
    return np.array(
        [
            1.0 / len(experts) if e.drafter_index is None else left * prior[e.drafter_index] / counts[e.drafter_index]
            for e in experts
        ]
    )
