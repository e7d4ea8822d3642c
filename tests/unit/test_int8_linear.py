"""Products with rounded weights are right but for their rounding, and so are heads that compute with them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from pydantic import ValidationError

from hedgespec.config import DrafterConfig
from hedgespec.engine.served_heads import served_bank
from hedgespec.models.eagle3.head import Eagle3Head
from hedgespec.models.eagle3.head_bank import HeadBank
from hedgespec.models.eagle3.head_drafters import load_eagle3_drafters
from hedgespec.models.folder import read_embedding
from hedgespec.models.lean.grouped_matrix import grouped_product
from hedgespec.models.lean.int8_linear import can_use_int8, int8_matrix, int8_product
from hedgespec.models.lean.lean_heads import LeanPasses
from tests.model_folders import HIDDEN_SIZE, make_eagle3, make_llama
from tests.unit.test_head_bank import attend_softly, make_heads

needs_int8 = pytest.mark.skipif(not can_use_int8(), reason="needs a torch with int8 products")


@needs_int8
@pytest.mark.parametrize("num_rows", [1, 2, 7, 48, 300])
@pytest.mark.parametrize("has_bias", [False, True])
@torch.inference_mode()
def test_products_are_right_but_for_their_rounding(num_rows: int, has_bias: bool) -> None:
    """Features whose weights are a thousand times smaller than those of others are right as well."""
    torch.manual_seed(0)
    weight = torch.randn(40, 64) * torch.logspace(-3, 0, 40)[:, None]
    bias = torch.randn(40) if has_bias else None
    rows = torch.randn(num_rows, 64)
    expected = torch.nn.functional.linear(rows, weight, bias)
    actual = int8_product(int8_matrix(weight, bias), rows)
    assert (actual - expected).abs().max(dim=0).values.lt(0.015 * rows.norm(dim=1).max() * weight.norm(dim=1)).all()


@needs_int8
@torch.inference_mode()
def test_no_rows_and_weights_of_nothing() -> None:
    assert int8_product(int8_matrix(torch.randn(5, 8)), torch.zeros(0, 8)).shape == (0, 5)
    assert torch.equal(int8_product(int8_matrix(torch.zeros(5, 8)), torch.ones(2, 8)), torch.zeros(2, 5))


@needs_int8
@torch.inference_mode()
def test_a_rounded_head_is_the_same_but_for_its_rounding() -> None:
    heads = make_heads(2)
    exact, rounded = LeanPasses(heads), LeanPasses(heads, in_int8=True)
    assert not exact.weights.lm_head.int8
    assert len(rounded.weights.lm_head.int8) == 2
    torch.manual_seed(0)
    ids, positions, hidden = torch.arange(6), torch.arange(6), torch.randn(6, 32)
    wide = exact.layer(ids, hidden, positions, attend_softly, [3, 3])
    narrow = rounded.layer(ids, hidden, positions, attend_softly, [3, 3])
    assert 0 < (narrow - wide).norm() < 0.05 * wide.norm()
    logits = exact.logits([wide], [3, 3])
    assert (rounded.logits([wide], [3, 3]) - logits).norm() < 0.05 * logits.norm()


@torch.inference_mode()
def test_features_are_not_rounded() -> None:
    """Large targets have components that are a thousand times the others."""
    heads = make_heads(2)
    passes = LeanPasses(heads, in_int8=True)
    features = torch.randn(2, 72)
    features[:, 3] *= 1000.0
    fused = grouped_product(passes.weights.fuse, features, [1, 1])
    torch.testing.assert_close(fused, torch.cat([h.fuse(f) for h, f in zip(heads, features.split(1), strict=True)]))


def test_what_is_configured_is_loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = str(make_eagle3(tmp_path_factory.mktemp("head")))
    embedding = read_embedding(make_llama(tmp_path_factory.mktemp("target")))
    configs = [
        DrafterConfig(id=name, kind="eagle3", model=folder, quantization=name)  # type: ignore[arg-type]
        for name in ("auto", "int8", "none")
    ]
    is_rounded: dict[str, bool] = {}

    def recorded_bank(heads: Sequence[Eagle3Head], config: DrafterConfig) -> HeadBank:
        bank = served_bank(heads, config)
        assert isinstance(bank.passes, LeanPasses)
        is_rounded[config.id] = len(bank.passes.weights.lm_head.int8) > 0
        return bank

    drafters = load_eagle3_drafters(configs, embedding, HIDDEN_SIZE, recorded_bank)
    assert is_rounded == {"auto": can_use_int8(), "none": False}
    assert drafters["auto"].batched_by == drafters["int8"].batched_by != drafters["none"].batched_by
    assert len({drafter.digest for drafter in drafters.values()}) == 1


def test_without_such_products_heads_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    can_use_int8.cache_clear()

    def refused(*_: object) -> None:
        raise RuntimeError("no engine\nat all")

    monkeypatch.setattr("hedgespec.models.lean.int8_linear.int8_product", refused)
    try:
        assert not can_use_int8()
        assert not LeanPasses(make_heads(1), in_int8=True).weights.lm_head.int8
    finally:
        can_use_int8.cache_clear()


def test_wrong_products_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    can_use_int8.cache_clear()
    monkeypatch.setattr(
        "hedgespec.models.lean.int8_linear.int8_product", lambda matrix, rows: torch.ones(len(rows), 16)
    )
    try:
        assert not can_use_int8()
    finally:
        can_use_int8.cache_clear()


@pytest.mark.parametrize("wrong", [{"kind": "ngram"}, {"kind": "eagle3", "model": "m", "device": "cuda"}])
def test_what_cannot_be_rounded_says_so(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="has no int8 weights; leave quantization out"):
        DrafterConfig.model_validate({"id": "d", "quantization": "int8", **wrong})
    assert not DrafterConfig.model_validate({"id": "d", **wrong}).is_in_int8


@needs_int8
@torch.inference_mode()
def test_memory_does_not_grow_with_the_counts_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library behind the product keeps memory for every count of rows that it has seen: only few counts may reach it."""
    seen: set[int] = set()
    inner = torch.ops.quantized.linear_dynamic

    def counted(rows: torch.Tensor, *others: object) -> torch.Tensor:
        seen.add(len(rows))
        return inner(rows, *others)

    monkeypatch.setattr(torch.ops.quantized, "linear_dynamic", counted)
    matrix, states = int8_matrix(torch.randn(16, 32)), torch.randn(512, 32)
    for count in range(1, 513):
        assert len(int8_product(matrix, states[:count])) == count
    assert len(seen) <= 47
