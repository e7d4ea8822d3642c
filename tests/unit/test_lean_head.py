"""The lean head computes what the published architecture computes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hedgespec.models.eagle3 import Eagle3Head
from hedgespec.models.eagle3_config import Eagle3Config
from hedgespec.models.lean_head import LeanHead
from hedgespec.models.rotary import RopeConfig
from tests.model_folders import randomise

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs torch with oneDNN")

CONFIG = Eagle3Config(
    hidden_size=32,
    target_hidden_size=24,
    intermediate_size=64,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    vocab_size=96,
    draft_vocab_size=64,
    max_positions=512,
    rms_norm_eps=1e-5,
    rope=RopeConfig(),
)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Every row attends to all rows: enough to notice a turned or misplaced head."""
    key, value = (states.repeat_interleave(2, dim=1) for states in (key, value))
    scores = torch.einsum("qhd,khd->hqk", query, key).softmax(dim=-1)
    return torch.einsum("hqk,khd->qhd", scores, value).flatten(1)


@pytest.mark.parametrize("num_rows", [1, 2, 7, 30])
@pytest.mark.parametrize("norm_before_residual", [False, True])
@pytest.mark.parametrize("has_fc_bias", [False, True])
@torch.inference_mode()
def test_every_method_gives_what_the_head_gives(num_rows: int, norm_before_residual: bool, has_fc_bias: bool) -> None:
    config = replace(CONFIG, norm_before_residual=norm_before_residual, has_fc_bias=has_fc_bias)
    torch.manual_seed(num_rows)
    head = Eagle3Head(config).eval()
    randomise(head, seed=3)
    for name, parameter in head.named_parameters():
        if "norm" in name:
            parameter.add_(0.5 * torch.rand_like(parameter))
    lean = LeanHead(head)
    ids, positions = torch.randint(0, 96, (num_rows,)), torch.randint(0, 1500, (num_rows,))
    features, hidden = torch.randn(num_rows, 72), torch.randn(num_rows, 32)
    expected = head.step(head.embed(ids), hidden, positions, attend)
    torch.testing.assert_close(lean.step(lean.embed(ids), hidden, positions, attend), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(lean.logits(hidden), head.logits(hidden), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(lean.fuse(features), head.fuse(features), atol=1e-4, rtol=1e-4)
