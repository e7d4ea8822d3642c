"""Four-bit weights for a target on the CPU, in groups of 32 with a step and an offset each, as in GGUF's Q4_0 and Q4_1.

The values of such a file are found again in its float32 weights, so that the four bits are the file's own. torch's product
takes steps and offsets as bfloat16, and rows too: it computes as a bfloat16 model does.

Products are functions of tuples, which `scripting` can compile; annotations must be types here, no strings.
"""

from functools import cache
from typing import NamedTuple

import structlog
import torch
from torch import Tensor

log = structlog.get_logger(__name__)

GROUP = 32
"""Weights in a row that share a step and an offset."""

_LEVELS = 15
"""The largest of the sixteen values."""

_ROWS_MULTIPLE = 16
"""torch packs the output features in sixteens."""

_TOLERANCE = 0.1
"""Relative to the length of a product; the rounding of random weights to four bits gives about 0.07."""


class Int4Matrix(NamedTuple):
    """A matrix for y = x W^T + b with float32 rows on the CPU; inference only.

    packed: four bits per weight in torch's layout
    scales: [in_features / GROUP, out_features, 2] step and offset in bfloat16: a weight is (value - 8) * step + offset
    bias:   [out_features]
    """

    packed: Tensor
    scales: Tensor
    bias: Tensor | None
    out_features: int


def fits_int4(weight: Tensor) -> bool:
    """Whether torch can pack a matrix of this shape."""
    return weight.shape[0] % _ROWS_MULTIPLE == 0 and weight.shape[1] % GROUP == 0


def int4_matrix(weight: Tensor, bias: Tensor | None = None) -> Int4Matrix:
    """Round and pack a float32 weight [out_features, in_features]; its bias [out_features] stays float32."""
    values, step, least = grouped_values(weight.detach())
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(values, 1)
    scales = torch.stack([step, least + 8 * step], dim=-1).transpose(0, 1).bfloat16().contiguous()
    return Int4Matrix(packed, scales, None if bias is None else bias.detach(), len(weight))


def grouped_values(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Write a weight as value * step + least. Exact, but for float rounding, for weights that were rounded like this before.

    Returns values [out_features, in_features], 0 to 15 in int32, and per group step and least, [out_features, num_groups].
    """
    groups = weight.unflatten(1, (-1, GROUP))
    least, largest = groups.aminmax(dim=-1)
    span = largest - least
    step = span / _LEVELS
    # a group that does not use all sixteen values has a wider step: take the widest range of values that fits
    is_found = _is_exact(groups, least, step)
    for levels in range(_LEVELS - 1, 0, -1):
        if bool(is_found.all()):
            break
        wider = span / levels
        fits = _is_exact(groups, least, wider) & ~is_found
        step = torch.where(fits, wider, step)
        is_found |= fits
    return _on_grid(groups, least, step).round_().clamp_(0, _LEVELS).int().flatten(1), step, least


def _is_exact(groups: Tensor, least: Tensor, step: Tensor) -> Tensor:
    """Whether all weights of a group lie on its grid, but for float rounding. [out_features, num_groups]"""
    values = _on_grid(groups, least, step)
    return (values - values.round()).abs_().amax(dim=-1) < 1e-3


def _on_grid(groups: Tensor, least: Tensor, step: Tensor) -> Tensor:
    """Return weights in steps above the least one of their group; zeros for a group of equal weights."""
    divisor = torch.where(step > 0, step, 1.0)
    return (groups - least.unsqueeze(-1)) / divisor.unsqueeze(-1)


def int4_product(matrix: Int4Matrix, rows: Tensor) -> Tensor:
    """Multiply, [num_rows, in_features] -> [num_rows, out_features]."""
    if rows.shape[0] == 0:
        return rows.new_zeros([0, matrix.out_features])
    narrow: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(
        rows.to(torch.bfloat16), matrix.packed, 32, matrix.scales
    )
    product = narrow.float()
    bias = matrix.bias
    return product if bias is None else product.add_(bias)


@cache
@torch.inference_mode()
def can_use_int4() -> bool:
    """Whether torch has these products on this machine, they are right, and rows do not change each other."""
    rows, weight = (
        torch.linspace(-1.0, 1.0, 9 * 64).view(9, 64).sin(),
        torch.linspace(-1.0, 2.0, 1024).sin().view(16, 64),
    )
    expected = rows @ weight.T
    try:
        matrix = int4_matrix(weight)
        together = int4_product(matrix, rows)
        alone = torch.cat([int4_product(matrix, row) for row in rows.split(1)])
    except Exception as reason:  # whatever torch raises
        log.warning("no_int4_products", reason=str(reason).strip().splitlines()[:1])
        return False
    return torch.equal(alone, together) and bool((together - expected).norm() < _TOLERANCE * expected.norm())
