"""Int8 linear layers on the CPU read a quarter of the bytes and multiply integers (ADR 13).

Products are functions of tuples, which `scripting` can compile; annotations must be types here, no strings.
"""

import warnings
from functools import cache
from typing import NamedTuple

import structlog
import torch
from torch import Tensor
from torch.nn.functional import pad

from hedgespec.models.lean.packed_linear import padded_rows

log = structlog.get_logger(__name__)

_TOLERANCE = 0.05
"""Relative to the length of a product; with seven bits of the inputs the error is 0.02."""

try:
    PackedWeight = torch.classes.quantized.LinearPackedParamsBase
except RuntimeError:  # a torch without it: `can_use_int8` says no
    PackedWeight = Tensor


class Int8Matrix(NamedTuple):
    """A matrix for y = x W^T + b. Weights are rounded per output feature, inputs per call with one step for all rows."""

    packed: PackedWeight  # type: ignore[valid-type]
    out_features: int


def int8_matrix(weight: Tensor, bias: Tensor | None = None) -> Int8Matrix:
    """Round and pack a float32 weight [out_features, in_features] and its bias [out_features]."""
    weight = weight.detach()
    steps = weight.abs().amax(dim=1).double().clamp(min=torch.finfo(torch.float32).tiny) / 127
    zero_points = torch.zeros(len(weight), dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch will drop quantized tensors in time, see `can_use_int8`
        rounded = torch.quantize_per_channel(weight, steps, zero_points, 0, torch.qint8)
    packed = torch.ops.quantized.linear_prepack(rounded, None if bias is None else bias.detach())
    return Int8Matrix(packed, len(weight))


def int8_product(matrix: Int8Matrix, rows: Tensor) -> Tensor:
    """Multiply, [num_rows, in_features] -> [num_rows, out_features].

    Row counts are rounded up as in `packed_linear.product`; rows of zeros do not change the step.
    """
    num_rows = rows.shape[0]
    if num_rows == 0:
        return rows.new_zeros([0, matrix.out_features])
    num_spare = padded_rows(num_rows) - num_rows
    padded = pad(rows, [0, 0, 0, num_spare]) if num_spare > 0 else rows
    # without VNNI pairs of products are added in 16 bits: one bit less of the inputs keeps them from overflowing
    result: Tensor = torch.ops.quantized.linear_dynamic(padded, matrix.packed, True)
    return result.narrow(0, 0, num_rows) if num_spare > 0 else result


@cache
@torch.inference_mode()
def can_use_int8() -> bool:
    """Whether torch has int8 products on this machine and they are right."""
    rows, weight = torch.linspace(-1.0, 1.0, 64).view(2, 32), torch.linspace(-1.0, 2.0, 512).sin().view(16, 32)
    expected = rows @ weight.T
    try:
        error = (int8_product(int8_matrix(weight), rows) - expected).norm() / expected.norm()
    except Exception as reason:  # whatever torch raises
        log.warning("no_int8_products", reason=str(reason).strip().splitlines()[:1])
        return False
    return bool(error < _TOLERANCE)
