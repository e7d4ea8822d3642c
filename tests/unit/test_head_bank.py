"""A bank of heads computes what each head of the published architecture computes."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from hedgespec.models.eagle3.config import Eagle3Config
from hedgespec.models.eagle3.head import Eagle3Head
from hedgespec.models.eagle3.head_bank import can_share
from hedgespec.models.eagle3.head_passes import PlainPasses
from hedgespec.models.lean.grouped_matrix import grouped_product, stacked_matrix
from hedgespec.models.lean.lean_heads import LeanPasses
from hedgespec.models.rotary import RopeConfig
from tests.model_folders import randomise

CONFIG = Eagle3Config(
    hidden_size=32,
    target_hidden_size=24,
    intermediate_size=64,
    num_attention_heads=4,
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
    wide_key, wide_value = (states.float().repeat_interleave(2, dim=1) for states in (key, value))
    scores = torch.einsum("qhd,khd->hqk", query.float(), wide_key).softmax(dim=-1)
    return torch.einsum("hqk,khd->qhd", scores, wide_value).flatten(1).to(query.dtype)


def attend_softly(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention without the near-ties of large scores, which any rounding turns over."""
    return attend(0.05 * query, key, value)


@torch.no_grad()
def make_heads(count: int, **changes: object) -> list[Eagle3Head]:
    heads = []
    for seed in range(count):
        head = Eagle3Head(replace(CONFIG, **changes)).eval()
        randomise(head, seed=3 + seed)
        for name, parameter in head.named_parameters():
            if "norm" in name:
                parameter.add_(0.5 * torch.rand_like(parameter))
        if heads:
            head.embed_tokens.weight = heads[0].embed_tokens.weight
        heads.append(head)
    return heads


@pytest.fixture(params=["plain", "packed", "stacked"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The plain passes, and lean ones with products as on the CPU and as on CUDA."""
    if request.param == "stacked":

        def stacked(weights: Any, *, in_int8: bool = False) -> Any:
            return stacked_matrix(weights)

        monkeypatch.setattr("hedgespec.models.lean.head_weights.grouped_matrix", stacked)
    elif request.param == "packed" and not torch.backends.mkldnn.is_available():
        pytest.skip("needs torch with oneDNN")
    return str(request.param)


@pytest.mark.parametrize("counts", [(1,), (2,), (7,), (30,), (1, 1, 1), (4, 4), (3, 0, 9), (0, 5), (1, 12, 2)])
@pytest.mark.parametrize("norm_before_residual", [False, True])
@pytest.mark.parametrize("has_fc_bias", [False, True])
@torch.inference_mode()
def test_every_head_gets_what_it_gives_alone(
    kind: str, counts: tuple[int, ...], norm_before_residual: bool, has_fc_bias: bool
) -> None:
    heads = make_heads(len(counts), norm_before_residual=norm_before_residual, has_fc_bias=has_fc_bias)
    passes, num_rows = PlainPasses(heads) if kind == "plain" else LeanPasses(heads), sum(counts)
    passes.require_positions(1500)
    torch.manual_seed(num_rows)
    ids, positions = torch.randint(0, 96, (num_rows,)), torch.randint(0, 1500, (num_rows,))
    features, hidden = torch.randn(num_rows, 72), torch.randn(num_rows, 32)

    def attend_apart(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return torch.cat([attend(*part) for part in zip(*(t.split(counts) for t in (query, key, value)), strict=True)])

    own = list(counts)
    steps = passes.layer(ids, hidden, positions, attend_apart, own).split(own)
    logits = passes.logits([hidden], own).split(own)
    rows = zip(heads, *(tensor.split(counts) for tensor in (ids, positions, features, hidden)), strict=True)
    for index, (head, own_ids, own_positions, own_features, own_hidden) in enumerate(rows):
        expected = head.step(head.embed(own_ids), own_hidden, own_positions, attend)
        torch.testing.assert_close(steps[index], expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(logits[index], head.logits(own_hidden), atol=1e-4, rtol=1e-4)
        if isinstance(passes, LeanPasses):
            fused = grouped_product(passes.weights.fuse, features, own).split(own)[index]
            torch.testing.assert_close(fused, head.fuse(own_features), atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_bfloat16_is_the_same_but_for_its_rounding() -> None:
    heads = make_heads(2)
    exact, rough = LeanPasses(heads), LeanPasses([deepcopy(head).bfloat16() for head in heads])
    ids, positions, hidden = torch.arange(6), torch.arange(6), torch.randn(6, 32)
    wide = exact.layer(ids, hidden, positions, attend_softly, [3, 3])
    narrow = rough.layer(ids, hidden.bfloat16(), positions, attend_softly, [3, 3])
    assert narrow.dtype == torch.bfloat16
    assert (narrow.float() - wide).norm() < 0.03 * wide.norm()


def test_only_heads_of_one_shape_and_embedding_share_a_bank() -> None:
    one, other = make_heads(2)
    (narrower,) = make_heads(1, intermediate_size=48)
    assert can_share(one, other)
    assert not can_share(one, narrower)
    other.embed_tokens.weight = torch.nn.Parameter(other.embed_tokens.weight + 1.0)
    assert not can_share(one, other)
