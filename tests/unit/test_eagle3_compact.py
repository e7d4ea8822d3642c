"""A compact head folder computes what its head did, within the rounding of its weights, and refuses what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hedgespec.errors import ModelFolderError
from hedgespec.models.eagle3.config import Eagle3Config
from hedgespec.models.eagle3.head import Eagle3Head, load_eagle3, save_compact, save_eagle3
from hedgespec.models.rotary import RopeConfig

_CONFIG = Eagle3Config(
    hidden_size=32, target_hidden_size=32, intermediate_size=48, num_attention_heads=4, num_kv_heads=2, head_dim=8,
    vocab_size=64, draft_vocab_size=20, max_positions=128, rms_norm_eps=1e-5, rope=RopeConfig(theta=5000.0),
)  # fmt: skip


@pytest.fixture
def output() -> Tensor:
    return torch.randn(64, 32, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def head(output: Tensor) -> Eagle3Head:
    torch.manual_seed(0)
    head = Eagle3Head(_CONFIG)
    head.draft_to_target = torch.arange(3, 63, 3)
    with torch.no_grad():
        head.embed_tokens.weight.copy_(output)
        head.lm_head.weight.copy_(output[head.draft_to_target])
    return head.eval()


def test_weights_come_back_within_half_a_step_and_output_rows_exactly(
    head: Eagle3Head, output: Tensor, tmp_path: Path
) -> None:
    save_compact(head, tmp_path)
    loaded = load_eagle3(tmp_path, output, target_output=lambda: output)
    assert loaded.config == head.config
    assert torch.equal(loaded.draft_to_target, head.draft_to_target)
    assert torch.equal(loaded.lm_head.weight, head.lm_head.weight)
    for name, weight in head.named_parameters():
        step = weight.abs().amax(-1, keepdim=True) / 127 if weight.dim() == 2 else torch.zeros(1)
        difference = (loaded.get_parameter(name) - weight).abs()
        assert bool((difference <= 0.501 * step).all()), name


def test_a_compact_folder_is_smaller_than_a_published_one(head: Eagle3Head, tmp_path: Path) -> None:
    save_compact(head, tmp_path / "compact")
    save_eagle3(head, tmp_path / "published")
    sizes = [sum(t.numel() * t.element_size() for t in load_file(tmp_path / f / "model.safetensors").values())
             for f in ("compact", "published")]  # fmt: skip
    assert sizes[0] < 0.6 * sizes[1]


def test_output_rows_are_read_only_where_they_are_missing(head: Eagle3Head, output: Tensor, tmp_path: Path) -> None:
    save_eagle3(head, tmp_path, dtype=torch.float32)

    def must_not_be_read() -> Tensor:
        raise AssertionError

    assert torch.equal(
        load_eagle3(tmp_path, output, target_output=must_not_be_read).lm_head.weight, head.lm_head.weight
    )


def test_what_does_not_fit_is_refused_by_name(head: Eagle3Head, output: Tensor, tmp_path: Path) -> None:
    save_compact(head, tmp_path)
    with pytest.raises(ModelFolderError, match=r"no lm_head\.weight"):
        load_eagle3(tmp_path, output)
    with pytest.raises(ModelFolderError, match="the target has 30 tokens"):
        load_eagle3(tmp_path, output, target_output=lambda: output[:30])
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    save_file({k: v for k, v in tensors.items() if k != "fc.weight_scale"}, file)
    with pytest.raises(ModelFolderError, match=r"fc\.weight_scale is missing"):
        load_eagle3(tmp_path, output, target_output=lambda: output)
    save_file(tensors | {"fc.weight_scale": torch.ones(5, 1)}, file)
    with pytest.raises(ModelFolderError, match=r"fc\.weight_scale is of shape \[5, 1\], expected \[32, 1\]"):
        load_eagle3(tmp_path, output, target_output=lambda: output)
