"""Two-byte weights for a target on the CPU: bfloat16 values, multiplied with float32 rows.

torch's own bfloat16 products round the rows as well and are slow without AVX-512. fbgemm's product reads halves, which it
widens in registers. A matrix is scaled by a power of two so that halves hold its bfloat16 values: those above 2^-17 of the
largest exactly, smaller ones to within 2^-25 of it.

Products are functions of tuples, which `scripting` can compile; annotations must be types here, no strings.
"""

import math
import warnings
from functools import cache
from typing import NamedTuple

import structlog
import torch
from torch import Tensor
from torch.nn.functional import pad

from hedgespec.models.lean.int8_linear import PackedWeight

log = structlog.get_logger(__name__)

_TOLERANCE = 0.01
"""Relative to the length of a product; the rounding of the weights alone gives about 0.002."""


class HalfMatrix(NamedTuple):
    """A matrix for y = x W^T + b with float32 rows on the CPU; inference only.

    packed: W / scale in fbgemm's layout, without bias
    bias:   [out_features]
    """

    packed: PackedWeight
    scale: float
    bias: Tensor | None
    out_features: int


def half_matrix(weight: Tensor, bias: Tensor | None = None) -> HalfMatrix:
    """Round a float32 weight [out_features, in_features] to bfloat16 and pack it; its bias [out_features] stays float32."""
    rounded = weight.detach().bfloat16().float()
    largest = float(rounded.abs().max())
    scale = 2.0 ** math.frexp(largest)[1] if largest > 0 else 1.0
    engine = torch.backends.quantized.engine
    try:
        torch.backends.quantized.engine = "fbgemm"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch will drop this product in time, see `can_use_halves`
            packed = torch.ops.quantized.linear_prepack_fp16(rounded / scale, None)
    finally:
        torch.backends.quantized.engine = engine
    return HalfMatrix(packed, scale, None if bias is None else bias.detach(), len(weight))


def half_product(matrix: HalfMatrix, rows: Tensor) -> Tensor:
    """Multiply, [num_rows, in_features] -> [num_rows, out_features].

    Row counts are rounded up so that fbgemm splits them among its kernels of three to six rows: that for a single row adds
    in another order than the rest.
    """
    num_rows = rows.shape[0]
    if num_rows == 0:
        return rows.new_zeros([0, matrix.out_features])
    num_padded = max(num_rows, 3) if num_rows <= 6 else 8 if num_rows <= 8 else (num_rows + 5) // 6 * 6
    num_spare = num_padded - num_rows
    padded = pad(rows, [0, 0, 0, num_spare]) if num_spare > 0 else rows
    product: Tensor = torch.ops.quantized.linear_dynamic_fp16(padded, matrix.packed)
    product = product.narrow(0, 0, num_rows).mul_(matrix.scale)
    bias = matrix.bias
    return product if bias is None else product.add_(bias)


@cache
@torch.inference_mode()
def can_use_halves() -> bool:
    """Whether torch has these products on this machine, they are right, and rows do not change each other."""
    rows, weight = (
        torch.linspace(-1.0, 1.0, 9 * 64).view(9, 64).sin(),
        torch.linspace(-1.0, 2.0, 1024).sin().view(16, 64),
    )
    expected = rows @ weight.T
    try:
        matrix = half_matrix(weight)
        together = half_product(matrix, rows)
        alone = torch.cat([half_product(matrix, row) for row in rows.split(1)])
    except Exception as reason:  # whatever torch raises
        log.warning("no_half_products", reason=str(reason).strip().splitlines()[:1])
        return False
    return torch.equal(alone, together) and bool((together - expected).norm() < _TOLERANCE * expected.norm())
