"""Linear layers whose weights are laid out for oneDNN once, at load time, on CPUs.

A verify block has few rows. For those torch's default product re-reads an unfavourable layout: 111 us for 6 rows of
256 x 768 on one core, 43 us with a packed weight; the output matrix of the zoo's target takes 883 us against 241 us.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

_EXPECTED_ROWS = 6
"""oneDNN chooses the layout for about so many rows; other counts work as well."""


_EXACT_ROWS = 8
"""Up to so many rows are computed as they are: one session's blocks."""


_SMALL = 1 << 20
"""Products of up to so many weights times rows are not oneDNN's: it needs about 28 us per call besides its arithmetic
(AVX2), which those do not repay. Matrices that may have such a product are kept in columns as well; larger ones are not,
where the memory would count."""


class PackedMatrix:
    """y = x W^T + b for float32 rows on the CPU; inference only.

    Row counts are rounded up: oneDNN keeps about 0.4 MB for every count that a layer's shape has ever seen, and blocks of
    many sessions have hundreds of them (measured: 192 counts of five shapes grow the process by 417 MB for good).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """weight: [out_features, in_features]; bias: [out_features]"""
        weight = weight.detach()
        self.out_features, self.in_features = weight.shape
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _EXPECTED_ROWS)
        self._num_weights = weight.numel()
        self._columns = weight.t().contiguous() if self._num_weights <= _SMALL else None
        self._bias = None if bias is None else bias.detach()

    def __call__(self, rows: Tensor) -> Tensor:
        """[num_rows, in_features] -> [num_rows, out_features]"""
        num_rows = rows.shape[0]
        if self._columns is not None and num_rows * self._num_weights <= _SMALL:
            return rows.mm(self._columns) if self._bias is None else torch.addmm(self._bias, rows, self._columns)
        if num_rows == 0:  # oneDNN knows no empty products
            return rows.new_zeros((0, self.out_features))
        num_spare = padded_rows(num_rows) - num_rows
        padded = pad(rows, (0, 0, 0, num_spare)) if num_spare else rows
        product: Tensor = torch.ops.mkldnn._linear_pointwise(padded, self._packed, self._bias, "none", [], "")
        return product[:num_rows] if num_spare else product

    def added(self, residual: Tensor, rows: Tensor) -> Tensor:
        """residual + the product, in one operator where there is one. residual: [num_rows, out_features]"""
        num_rows = rows.shape[0]
        if self._columns is not None and self._bias is None and num_rows * self._num_weights <= _SMALL:
            return torch.addmm(residual, rows, self._columns)
        if num_rows == 0 or num_rows != padded_rows(num_rows):
            return residual + self(rows)
        total: Tensor = torch.ops.mkldnn._linear_pointwise.binary(rows, residual, self._packed, self._bias, "add")
        return total


class PackedLinear(nn.Module):
    """A packed matrix in the place of an `nn.Linear`."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._matrix = PackedMatrix(linear.weight, linear.bias)

    def forward(self, states: Tensor) -> Tensor:
        """[..., in_features] -> [..., out_features]"""
        if states.dim() == 2:
            return self._matrix(states)
        rows = states.reshape(-1, self._matrix.in_features)
        return self._matrix(rows).view(*states.shape[:-1], self._matrix.out_features)


def padded_rows(num_rows: int) -> int:
    """The next row count that is computed: steps of four, and of an eighth beyond 64 rows, so few counts in all.

    Wider steps (an eighth, but at least eight) held less memory and cost 10 to 20 % of a pass of 10 to 42 rows.
    """
    if num_rows <= _EXACT_ROWS:
        return num_rows
    step = max(4, 1 << (num_rows - 1).bit_length() - 4)
    return -(-num_rows // step) * step


def can_pack(tensor: Tensor) -> bool:
    """Float32 on a CPU, and a torch that has oneDNN."""
    return torch.backends.mkldnn.is_available() and tensor.dtype == torch.float32 and tensor.device.type == "cpu"


def pack_linears(model: nn.Module) -> None:
    """Replace every float32 `nn.Linear` on the CPU, where oneDNN is there. The packed copies are no parameters any more:
    count and check parameters before.
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Linear and can_pack(child.weight):
                setattr(module, name, PackedLinear(child))
