"""Int8 weights for a target on the CPU: the result of a row never depends on the rows beside it, bit for bit.

Weights are rounded per output feature. Every row is divided by its own largest magnitude and written in two digits of seven
bits, so that about fourteen bits of it are left; the digits are rows of one integer product with a fixed step. Integer sums
are exact, so a token gets the same logits alone, in a block of draft tokens and beside other sessions.

Products are functions of tuples, which `scripting` can compile; annotations must be types here, no strings.
"""

import warnings
from functools import cache
from typing import NamedTuple

import structlog
import torch
from torch import Tensor

from hedgespec.models.lean.int8_linear import PackedWeight

log = structlog.get_logger(__name__)

_TOLERANCE = 0.02
"""Relative to the length of a product; the rounding of the weights alone gives about 0.005."""


class RowwiseInt8(NamedTuple):
    """A matrix for y = x W^T + b with float32 rows on the CPU; inference only.

    packed: W in fbgemm's layout, without bias
    bias:   [out_features]
    """

    packed: PackedWeight
    bias: Tensor | None
    out_features: int


def rowwise_int8(weight: Tensor, bias: Tensor | None = None) -> RowwiseInt8:
    """Round and pack a float32 weight [out_features, in_features]; its bias [out_features] stays float32."""
    weight = weight.detach()
    steps = weight.abs().amax(dim=1).double().clamp(min=torch.finfo(torch.float32).tiny) / 127
    zero_points = torch.zeros(len(weight), dtype=torch.int64)
    engine = torch.backends.quantized.engine
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # torch will drop quantized tensors in time, see `can_use_rowwise_int8`
        rounded = torch.quantize_per_channel(weight, steps, zero_points, 0, torch.qint8)
    try:
        torch.backends.quantized.engine = "fbgemm"  # oneDNN's layout has no product with a fixed step
        packed = torch.ops.quantized.linear_prepack(rounded, None)
    finally:
        torch.backends.quantized.engine = engine
    return RowwiseInt8(packed, None if bias is None else bias.detach(), len(weight))


def rowwise_product(matrix: RowwiseInt8, rows: Tensor) -> Tensor:
    """Multiply, [num_rows, in_features] -> [num_rows, out_features].

    Digits are -63 to 63, and the byte 64 stands for digit 0: without VNNI pairs of products are added in 16 bits, which
    2 * 127 * 127 does not overflow.
    """
    largest = 63.0
    num_rows = rows.shape[0]
    if num_rows == 0:
        return rows.new_zeros([0, matrix.out_features])
    step = torch.linalg.vector_norm(rows, float("inf"), [-1], True).clamp_min_(1e-30).div_(largest)
    low = rows / step
    high = low.round()
    low.sub_(high).mul_(2 * largest)
    digits = torch.cat([high, low])
    products: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(digits, 1.0, 64, matrix.packed)
    result = products.narrow(0, num_rows, num_rows).mul_(1 / (2 * largest))
    result = result.add_(products.narrow(0, 0, num_rows)).mul_(step)
    bias = matrix.bias
    return result if bias is None else result.add_(bias)


@cache
@torch.inference_mode()
def can_use_rowwise_int8() -> bool:
    """Whether torch has these products on this machine, they are right, and rows do not change each other."""
    rows, weight = (
        torch.linspace(-1.0, 1.0, 9 * 64).view(9, 64).sin(),
        torch.linspace(-1.0, 2.0, 1024).sin().view(16, 64),
    )
    expected = rows @ weight.T
    try:
        matrix = rowwise_int8(weight)
        together = rowwise_product(matrix, rows)
        alone = torch.cat([rowwise_product(matrix, row) for row in rows.split(1)])
    except Exception as reason:  # whatever torch raises
        log.warning("no_int8_products", reason=str(reason).strip().splitlines()[:1])
        return False
    return torch.equal(alone, together) and bool((together - expected).norm() < _TOLERANCE * expected.norm())
