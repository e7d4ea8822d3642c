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

    packed:     W in fbgemm's layout, without bias
    bias:       [out_features]
    least_step: of a row's digits, a scalar that is added to every step
    """

    packed: PackedWeight
    bias: Tensor | None
    out_features: int
    least_step: Tensor


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
    return RowwiseInt8(packed, None if bias is None else bias.detach(), len(weight), torch.tensor(1e-30))


def rowwise_product(matrix: RowwiseInt8, rows: Tensor) -> Tensor:
    """Multiply, [num_rows, in_features] -> [num_rows, out_features]."""
    if rows.shape[0] == 0:
        return rows.new_zeros([0, matrix.out_features])
    products, step = _products(matrix, rows)
    bias = matrix.bias
    return products.mul_(step) if bias is None else torch.addcmul(bias, products, step)


def rowwise_product_onto(matrix: RowwiseInt8, residual: Tensor, rows: Tensor) -> Tensor:
    """Add the product to residual [num_rows, out_features]."""
    if matrix.bias is not None or rows.shape[0] == 0:
        return rowwise_product(matrix, rows).add_(residual)
    products, step = _products(matrix, rows)
    return torch.addcmul(residual, products, step)


def _products(matrix: RowwiseInt8, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return products of rows in their own steps, and the steps [num_rows, 1].

    Digits are -63 to 63, and the byte 64 stands for digit 0: without VNNI pairs of products are added in 16 bits, which
    2 * 127 * 127 does not overflow. A step is never 0, so that a row of zeros stays one. Every operator counts here: with
    one row it costs its call.
    """
    step = torch.add(matrix.least_step, torch.linalg.vector_norm(rows, float("inf"), [-1], True), alpha=1 / 63)
    low = rows / step
    high = low.round()
    low.sub_(high).mul_(126)
    digits = torch.cat([high, low])
    products: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(digits, 1.0, 64, matrix.packed)
    of_high, of_low = products.chunk(2)
    return of_high.add_(of_low, alpha=1 / 126), step


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
