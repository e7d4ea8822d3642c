"""Packed linear layers: weights on the CPU are laid out for oneDNN once, at load time.

A verify block has few rows, and torch's default product reads them from an unfavourable layout: 6 rows times 256 x 768 take
111 us on one core, 43 us with a packed weight; the output matrix of the zoo's target takes 883 us, packed 241 us.

Products are functions of tuples, which `scripting` can compile; annotations must be types here, no strings.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

_EXPECTED_ROWS = 6
"""The row count that oneDNN chooses the layout for; other counts work as well."""

_SMALL = 1 << 20
"""Largest weights x rows that torch multiplies itself: a call of oneDNN takes about 28 us besides its arithmetic (AVX2).
Matrices small enough for such products are kept in columns as well; for larger ones that would take too much memory."""


class PackedMatrix(NamedTuple):
    """A matrix for y = x W^T + b with float32 rows on the CPU; inference only.

    packed:  W in oneDNN's layout
    columns: W^T, [in_features, out_features], of a small matrix
    bias:    [out_features]
    max_small_rows: largest row count that is multiplied with `columns`
    """

    packed: Tensor
    columns: Tensor | None
    bias: Tensor | None
    out_features: int
    max_small_rows: int


def packed_matrix(weight: Tensor, bias: Tensor | None = None) -> PackedMatrix:
    """Pack a weight [out_features, in_features] and its bias [out_features]."""
    weight = weight.detach()
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _EXPECTED_ROWS)
    is_small = weight.numel() <= _SMALL
    columns = weight.t().contiguous() if is_small else None
    max_small_rows = _SMALL // max(weight.numel(), 1) if is_small else -1
    return PackedMatrix(packed, columns, None if bias is None else bias.detach(), weight.shape[0], max_small_rows)


def product(matrix: PackedMatrix, rows: Tensor) -> Tensor:
    """Multiply, [num_rows, in_features] -> [num_rows, out_features].

    Row counts are rounded up: oneDNN keeps about 0.4 MB for every row count that a matrix shape has ever seen, and blocks of
    many sessions have hundreds of counts (measured: 192 counts of five shapes grow the process by 417 MB for good).
    """
    num_rows = rows.shape[0]
    columns, bias = matrix.columns, matrix.bias
    if columns is not None and num_rows <= matrix.max_small_rows:
        return rows.mm(columns) if bias is None else torch.addmm(bias, rows, columns)
    if num_rows == 0:  # oneDNN knows no empty products
        return rows.new_zeros([0, matrix.out_features])
    num_spare = padded_rows(num_rows) - num_rows
    padded = pad(rows, [0, 0, 0, num_spare]) if num_spare > 0 else rows
    result: Tensor = torch.ops.mkldnn._linear_pointwise(padded, matrix.packed, bias, "none", [], "")
    return result.narrow(0, 0, num_rows) if num_spare > 0 else result


def product_onto(matrix: PackedMatrix, residual: Tensor, rows: Tensor) -> Tensor:
    """Add the product to residual [num_rows, out_features], in one operator where there is one."""
    num_rows = rows.shape[0]
    columns = matrix.columns
    if columns is not None and matrix.bias is None and num_rows <= matrix.max_small_rows:
        return torch.addmm(residual, rows, columns)
    if num_rows == 0 or num_rows != padded_rows(num_rows):
        return residual + product(matrix, rows)
    total: Tensor = torch.ops.mkldnn._linear_pointwise(rows, residual, matrix.packed, matrix.bias, "add")
    return total


class PackedLinear(nn.Module):
    """A packed matrix that replaces an `nn.Linear`."""

    matrix: PackedMatrix

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.matrix = packed_matrix(linear.weight, linear.bias)

    def forward(self, states: Tensor) -> Tensor:
        """Multiply, [..., in_features] -> [..., out_features]."""
        if states.dim() == 2:
            return product(self.matrix, states)
        rows = product(self.matrix, states.reshape(-1, states.shape[-1]))
        return rows.view(states.shape[:-1] + rows.shape[-1:])


def padded_rows(num_rows: int) -> int:
    """Round a row count up to one of few: every count to eight (one session's blocks), then steps of four, beyond 64 rows of
    an eighth.

    Wider steps (an eighth, but at least eight) take less memory and cost 10 to 20 % of a pass of 10 to 42 rows.
    """
    if num_rows <= 8:
        return num_rows
    step = 4
    while 16 * step < num_rows:
        step *= 2
    return (num_rows + step - 1) // step * step


def can_pack(tensor: Tensor) -> bool:
    """Whether a tensor is float32 on a CPU and torch has oneDNN."""
    return torch.backends.mkldnn.is_available() and tensor.dtype == torch.float32 and tensor.device.type == "cpu"


def pack_linears(model: nn.Module) -> None:
    """Replace every `nn.Linear` that can be packed. Packed copies are no parameters: count and check parameters before."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Linear and can_pack(child.weight):
                setattr(module, name, PackedLinear(child))
