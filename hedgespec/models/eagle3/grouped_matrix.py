"""Products of several heads' rows with their own matrices: rows in the order of the heads, so many for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from hedgespec.models.packed_linear import can_pack, packed_matrix, product, product_onto

Weights = Sequence[tuple[Tensor, Tensor | None]]
"""Per head: weight [out_features, in_features], bias [out_features] or None."""


class GroupedMatrix(Protocol):
    def __call__(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """[num_rows, in_features] -> [num_rows, out_features]; counts: [num_heads], rows of every head."""
        ...

    def added(self, residual: Tensor, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """residual + the product. residual: [num_rows, out_features]"""
        ...


def grouped_matrix(weights: Weights) -> GroupedMatrix:
    return PackedMatrices(weights) if all(can_pack(weight) for weight, _ in weights) else StackedMatrix(weights)


class PackedMatrices:
    """Float32 on the CPU: one packed product per head that has rows.

    Batched products were tried instead: 7 heads of 512 x 768, cold, take 389 us for a row each and 1,367 for 16 rows;
    packed ones 431 and 717.
    """

    def __init__(self, weights: Weights) -> None:
        self._matrices = [packed_matrix(weight, bias) for weight, bias in weights]

    def __call__(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        used = [place for place, count in enumerate(counts) if count]
        if len(used) < 2:
            return product(self._matrices[used[0] if used else 0], rows)
        parts = rows.split([counts[place] for place in used])
        return torch.cat([product(self._matrices[place], part) for place, part in zip(used, parts, strict=True)])

    def added(self, residual: Tensor, rows: Tensor, counts: Sequence[int]) -> Tensor:
        used = [place for place, count in enumerate(counts) if count]
        if len(used) < 2:
            return product_onto(self._matrices[used[0] if used else 0], residual, rows)
        sizes = [counts[place] for place in used]
        parts = zip(used, residual.split(sizes), rows.split(sizes), strict=True)
        return torch.cat([product_onto(self._matrices[place], before, part) for place, before, part in parts])


class StackedMatrix:
    """Any type and device: one batched product where all heads have equally many rows, else one product per head."""

    def __init__(self, weights: Weights) -> None:
        self._columns = torch.stack([weight.detach() for weight, _ in weights]).mT.contiguous()  # [heads, in, out]
        biases = [bias.detach() for _, bias in weights if bias is not None]
        self._biases = torch.stack(biases) if biases else None  # [heads, out]

    def __call__(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        num_heads, _, out_features = self._columns.shape
        used = [place for place, count in enumerate(counts) if count]
        if len(used) < 2:
            place = used[0] if used else 0
            product = rows.mm(self._columns[place])
            return product if self._biases is None else product + self._biases[place]
        if len(set(counts)) == 1:
            product = rows.view(num_heads, counts[0], -1).bmm(self._columns)
            biased = product if self._biases is None else product + self._biases[:, None]
            return biased.view(-1, out_features)
        parts = zip(used, rows.split([counts[place] for place in used]), strict=True)
        if self._biases is None:
            return torch.cat([part.mm(self._columns[place]) for place, part in parts])
        return torch.cat([torch.addmm(self._biases[place], part, self._columns[place]) for place, part in parts])

    def added(self, residual: Tensor, rows: Tensor, counts: Sequence[int]) -> Tensor:
        return residual + self(rows, counts)
