"""Packed linear layers give the same products."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hedgespec.models.lean.packed_linear import PackedLinear, pack_linears, padded_rows

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs torch with oneDNN")


@pytest.mark.parametrize("shape", [(1, 24), (6, 24), (300, 24), (1, 5, 24), (2, 3, 4, 24), (0, 24), (1, 0, 24)])
@pytest.mark.parametrize("bias", [False, True])
def test_products_equal_torchs_own(shape: tuple[int, ...], bias: bool) -> None:
    """Any leading dimensions, none at all included; float32 rounding apart."""
    torch.manual_seed(0)
    linear = nn.Linear(24, 40, bias=bias)
    states = torch.randn(shape)
    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(linear)(states), linear(states), atol=1e-5, rtol=1e-5)


def test_inputs_need_not_be_contiguous() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(8, 16, bias=False)
    states = torch.randn(8, 5).t()
    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(linear)(states), linear(states), atol=1e-5, rtol=1e-5)


def test_every_float32_layer_is_replaced_and_nothing_else() -> None:
    """Nested and tied layers are packed; bfloat16 ones and embeddings stay as they are."""
    model = nn.Sequential(nn.Embedding(10, 8), nn.Sequential(nn.Linear(8, 8), nn.ReLU()), nn.Linear(8, 4).bfloat16())
    pack_linears(model)
    kinds = [type(m) for m in model.modules()]
    assert kinds.count(PackedLinear) == 1
    assert kinds.count(nn.Linear) == 1
    assert kinds.count(nn.Embedding) == 1


def test_row_counts_are_rounded_up_to_few() -> None:
    """oneDNN keeps memory per count: 513 counts become 47, none more than four rows or an eighth above the asked one."""
    padded = [padded_rows(count) for count in range(513)]
    assert len(set(padded)) <= 47
    assert padded[:9] == list(range(9))
    assert all(count <= rows <= max(count + 3, count * 1.125) for count, rows in enumerate(padded))
    assert padded[48] == 48
