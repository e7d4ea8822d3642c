"""Products of several heads' rows with each head's own matrix; the rows stand in the order of the heads.

Functions of plain tuples, so that TorchScript can compile them; annotations must be types here, no strings.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hedgespec.models.lean.int8_linear import Int8Matrix, int8_matrix, int8_product
from hedgespec.models.lean.packed_linear import PackedMatrix, can_pack, packed_matrix, product, product_onto


class GroupedMatrix(NamedTuple):
    """One matrix per head, in one of three layouts.

    packed:  per head, float32 on the CPU
    int8:    per head, rounded, on the CPU
    columns: [num_heads, in_features, out_features], for any type and device
    biases:  [num_heads, out_features], with columns
    """

    packed: list[PackedMatrix]
    int8: list[Int8Matrix]
    columns: Tensor | None
    biases: Tensor | None


def grouped_matrix(weights: Sequence[tuple[Tensor, Tensor | None]], *, in_int8: bool = False) -> GroupedMatrix:
    """Lay out matrices in the fastest way. weights: per head [out_features, in_features], and bias [out_features] or None;
    in_int8: round those of float32 on the CPU

    Batched products were tried on the CPU instead: 7 heads of 512 x 768, cold, take 389 us for a row each and 1,367 for
    16 rows; packed ones 431 and 717.
    """
    if not all(can_pack(weight) for weight, _ in weights):
        return stacked_matrix(weights)
    if in_int8:
        return GroupedMatrix([], [int8_matrix(weight, bias) for weight, bias in weights], None, None)
    return GroupedMatrix([packed_matrix(weight, bias) for weight, bias in weights], [], None, None)


def stacked_matrix(weights: Sequence[tuple[Tensor, Tensor | None]]) -> GroupedMatrix:
    """Lay out matrices as `columns`."""
    columns = torch.stack([weight.detach() for weight, _ in weights]).mT.contiguous()
    biases = [bias.detach() for _, bias in weights if bias is not None]
    return GroupedMatrix([], [], columns, torch.stack(biases) if biases else None)


def grouped_product(matrix: GroupedMatrix, rows: Tensor, counts: list[int]) -> Tensor:
    """Multiply: [num_rows, in_features] -> [num_rows, out_features]. counts: [num_heads], rows of every head"""
    columns = matrix.columns
    if columns is not None:
        return _stacked_product(columns, matrix.biases, rows, counts)
    only = _only_head(counts)
    if only >= 0:
        return _product(matrix, only, rows)
    products: list[Tensor] = []
    for head, part in enumerate(rows.split_with_sizes(counts)):
        if part.shape[0] > 0:
            products.append(_product(matrix, head, part))
    return torch.cat(products)


def grouped_product_onto(matrix: GroupedMatrix, residual: Tensor, rows: Tensor, counts: list[int]) -> Tensor:
    """Return residual + the product. residual: [num_rows, out_features]"""
    columns = matrix.columns
    if columns is not None:
        return residual + _stacked_product(columns, matrix.biases, rows, counts)
    only = _only_head(counts)
    if only >= 0:
        return _product_onto(matrix, only, residual, rows)
    sums: list[Tensor] = []
    residuals = residual.split_with_sizes(counts)
    for head, part in enumerate(rows.split_with_sizes(counts)):
        if part.shape[0] > 0:
            sums.append(_product_onto(matrix, head, residuals[head], part))
    return torch.cat(sums)


def _product(matrix: GroupedMatrix, head: int, rows: Tensor) -> Tensor:
    return int8_product(matrix.int8[head], rows) if len(matrix.int8) > 0 else product(matrix.packed[head], rows)


def _product_onto(matrix: GroupedMatrix, head: int, residual: Tensor, rows: Tensor) -> Tensor:
    if len(matrix.int8) > 0:
        return int8_product(matrix.int8[head], rows).add_(residual)
    return product_onto(matrix.packed[head], residual, rows)


def _stacked_product(columns: Tensor, biases: Tensor | None, rows: Tensor, counts: list[int]) -> Tensor:
    """One batched product where all heads have equally many rows, else one product per head."""
    only = _only_head(counts)
    if only >= 0:
        alone = rows.mm(columns[only])
        return alone if biases is None else alone + biases[only]
    if counts == [counts[0]] * len(counts):
        together = rows.view(len(counts), counts[0], -1).bmm(columns)
        biased = together if biases is None else together + biases.unsqueeze(1)
        return biased.view(rows.shape[0], -1)
    products: list[Tensor] = []
    for head, part in enumerate(rows.split_with_sizes(counts)):
        if part.shape[0] > 0:
            own = part.mm(columns[head])
            products.append(own if biases is None else own + biases[head])
    return torch.cat(products)


def _only_head(counts: list[int]) -> int:
    """Return the head that has rows, 0 if none has; -1 when several do."""
    only = -1
    for head, count in enumerate(counts):
        if count > 0:
            if only >= 0:
                return -1
            only = head
    return max(only, 0)
