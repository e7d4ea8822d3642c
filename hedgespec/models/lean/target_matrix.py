"""One matrix of a causal LM on the CPU, in the layout that `target.quantization` names; callers do not see which.

Functions of plain tuples, so that TorchScript can compile them; annotations must be types here, no strings.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from hedgespec.config import Quantization
from hedgespec.errors import ConfigError
from hedgespec.models.lean import packed_linear
from hedgespec.models.lean.half_linear import HalfMatrix, can_use_halves, half_matrix, half_product
from hedgespec.models.lean.int4_linear import Int4Matrix, can_use_int4, fits_int4, int4_matrix, int4_product
from hedgespec.models.lean.packed_linear import PackedMatrix, can_pack, packed_matrix
from hedgespec.models.lean.rowwise_int8 import (
    RowwiseInt8,
    can_use_rowwise_int8,
    rowwise_int8,
    rowwise_product,
    rowwise_product_onto,
)


class Matrix(NamedTuple):
    """A matrix for y = x W^T + b with float32 rows; exactly one of the lists has an element."""

    float32: list[PackedMatrix]
    half: list[HalfMatrix]
    int8: list[RowwiseInt8]
    int4: list[Int4Matrix]


def matrix_of(weight: Tensor, bias: Tensor | None, quantization: Quantization) -> Matrix:
    """Lay out a float32 weight [out_features, in_features] and its bias [out_features].

    A shape that torch cannot pack in four bits takes eight.
    """
    if quantization == "none":
        return Matrix([packed_matrix(weight, bias)], [], [], [])
    if quantization == "bf16":
        return Matrix([], [half_matrix(weight, bias)], [], [])
    if quantization == "int4" and fits_int4(weight):
        return Matrix([], [], [], [int4_matrix(weight, bias)])
    return Matrix([], [], [rowwise_int8(weight, bias)], [])


def product(matrix: Matrix, rows: Tensor) -> Tensor:
    """Multiply, [num_rows, in_features] -> [num_rows, out_features]."""
    if len(matrix.float32) > 0:
        return packed_linear.product(matrix.float32[0], rows)
    if len(matrix.int8) > 0:
        return rowwise_product(matrix.int8[0], rows)
    if len(matrix.half) > 0:
        return half_product(matrix.half[0], rows)
    return int4_product(matrix.int4[0], rows)


def product_onto(matrix: Matrix, residual: Tensor, rows: Tensor) -> Tensor:
    """Return residual + the product. residual: [num_rows, out_features]"""
    if len(matrix.float32) > 0:
        return packed_linear.product_onto(matrix.float32[0], residual, rows)
    if len(matrix.int8) > 0:
        return rowwise_product_onto(matrix.int8[0], residual, rows)
    return product(matrix, rows).add_(residual)


def check_quantization(quantization: Quantization) -> None:
    """Raise ConfigError where torch lacks the products that a quantization needs on this machine."""
    needed = {
        "none": [],
        "bf16": [can_use_halves],
        "int8": [can_use_rowwise_int8],
        "int4": [can_use_int4, can_use_rowwise_int8],
    }
    if not all(can_use() for can_use in needed[quantization]):
        raise ConfigError(
            f"target: quantization {quantization} needs products that torch {torch.__version__} does not have on this "
            "machine; leave target.quantization out"
        )


class QuantizedLinear(nn.Module):
    """A matrix that replaces an `nn.Linear`, also inside a network of transformers."""

    matrix: Matrix

    def __init__(self, linear: nn.Linear, quantization: Quantization) -> None:
        super().__init__()
        self.matrix = matrix_of(linear.weight, linear.bias, quantization)

    def forward(self, states: Tensor) -> Tensor:
        """Multiply, [..., in_features] -> [..., out_features]."""
        if states.dim() == 2:
            return product(self.matrix, states)
        rows = product(self.matrix, states.reshape(-1, states.shape[-1]))
        return rows.view(states.shape[:-1] + rows.shape[-1:])


def quantize_linears(model: nn.Module, output: nn.Module | None, quantization: Quantization) -> None:
    """Replace every `nn.Linear` that can be packed; the output matrix takes eight bits where the others take four."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Linear and can_pack(child.weight):
                is_output = child is output and quantization == "int4"
                setattr(module, name, QuantizedLinear(child, "int8" if is_output else quantization))
