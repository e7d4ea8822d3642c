"""Linear layers whose weights are laid out for oneDNN once, at load time, on CPUs.

A verify block has few rows. For those torch's default product re-reads an unfavourable layout: 111 us for 6 rows of
256 x 768 on one core, 43 us with a packed weight; the output matrix of the zoo's target takes 883 us against 241 us.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_EXPECTED_ROWS = 6
"""oneDNN chooses the layout for about so many rows; other counts work as well."""


class PackedLinear(nn.Module):
    """y = x W^T + b for float32 inputs on the CPU; inference only."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.out_features = linear.out_features
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _EXPECTED_ROWS)
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, states: Tensor) -> Tensor:
        """[..., in_features] -> [..., out_features]"""
        if states.numel() == 0:  # oneDNN knows no empty products
            return states.new_zeros((*states.shape[:-1], self.out_features))
        product: Tensor = torch.ops.mkldnn._linear_pointwise(states, self._weight, self._bias, "none", [], "")
        return product


def pack_linears(model: nn.Module) -> None:
    """Replace every float32 `nn.Linear` on the CPU, where oneDNN is there. The packed copies are no parameters any more:
    count and check parameters before.
    """
    if not torch.backends.mkldnn.is_available():
        return
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Linear and child.weight.dtype == torch.float32 and child.weight.device.type == "cpu":
                setattr(module, name, PackedLinear(child))
