"""A rounded target is near the float32 one, and what it computes for a row depends on that row's text alone, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hedgespec.config import Quantization
from hedgespec.models.causal_lm.block import Block
from hedgespec.models.causal_lm.folder import load_causal_lm
from hedgespec.models.causal_lm.packed import PackedCausalLM
from hedgespec.models.lean.half_linear import can_use_halves
from hedgespec.models.lean.int4_linear import can_use_int4, grouped_values
from hedgespec.models.lean.lean_network import LeanNetwork, PaddedNetwork, accelerate
from hedgespec.models.lean.rowwise_int8 import can_use_rowwise_int8
from hedgespec.models.lean.target_matrix import QuantizedLinear, matrix_of, product
from hedgespec.models.memory.kv_memory import KvMemory
from tests.model_folders import MAKERS, VOCAB_SIZE, make_llama

pytestmark = pytest.mark.skipif(
    not (can_use_rowwise_int8() and can_use_halves() and can_use_int4()), reason="needs a torch with these products"
)

ROUNDED: list[Quantization] = ["bf16", "int8", "int4"]
ERRORS: dict[Quantization, float] = {"bf16": 0.004, "int8": 0.015, "int4": 0.12}


@pytest.mark.parametrize("quantization", ROUNDED)
@pytest.mark.parametrize("has_bias", [False, True])
@torch.inference_mode()
def test_a_row_is_the_same_alone_and_in_any_block(quantization: Quantization, has_bias: bool) -> None:
    """Rows differ a million times in size, and each has components a hundred times the others."""
    torch.manual_seed(0)
    weight, bias = torch.randn(48, 96) * torch.logspace(-2, 0, 48)[:, None], torch.randn(48) if has_bias else None
    rows = torch.randn(200, 96) * torch.logspace(-3, 3, 200)[:, None]
    rows[:, 5] *= 100
    rows[17] = 0
    matrix = matrix_of(weight, bias, quantization)
    alone = torch.cat([product(matrix, row) for row in rows.split(1)])
    for count in [*range(2, 41), 64, 199]:
        for first in (0, 13, 200 - count):
            assert torch.equal(product(matrix, rows[first : first + count]), alone[first : first + count])
    exact = nn.functional.linear(rows, weight)
    error = (alone - (0 if bias is None else bias) - exact).norm(dim=1)
    assert error.le(ERRORS[quantization] * rows.norm(dim=1) * weight.norm(dim=1).max()).all()


@pytest.mark.parametrize("quantization", ROUNDED)
@torch.inference_mode()
def test_no_rows_and_weights_of_nothing(quantization: Quantization) -> None:
    assert product(matrix_of(torch.randn(16, 32), None, quantization), torch.zeros(0, 32)).shape == (0, 16)
    assert torch.equal(
        product(matrix_of(torch.zeros(16, 32), None, quantization), torch.ones(2, 32)), torch.zeros(2, 16)
    )


def test_four_bits_of_a_file_are_found_again() -> None:
    """Groups that use all sixteen values and groups that do not, with steps and offsets that halves hold, as in GGUF."""
    torch.manual_seed(0)
    values = torch.randint(0, 16, (64, 96))
    values[:20] = values[:20].clamp(3, 9)
    values[20] = 7
    step = torch.rand(64, 3).half().float().repeat_interleave(32, dim=1)
    least = torch.randn(64, 3).half().float().repeat_interleave(32, dim=1)
    weight = step * values + least
    found, found_step, found_least = grouped_values(weight)
    again = found.unflatten(1, (3, 32)) * found_step.unsqueeze(-1) + found_least.unsqueeze(-1)
    torch.testing.assert_close(again.flatten(1), weight, rtol=1e-6, atol=1e-6)
    assert found.max() <= 15


@pytest.mark.parametrize(
    ("name", "quantization"), [*(("llama", kind) for kind in ROUNDED), *((name, "int8") for name in sorted(MAKERS))]
)
def test_blocks_and_batches_change_no_bit_of_a_pass(quantization: Quantization, name: str, tmp_path: Path) -> None:
    """Every way to cut two texts into blocks, alone or beside each other, gives the same logits; also for models that stay
    with transformers, and across groups of keys."""
    model = load(MAKERS[name](tmp_path), quantization)
    assert model.is_row_exact
    ids = np.random.default_rng(0).integers(0, VOCAB_SIZE, (2, 90)).astype(np.int32)
    alone = [logits_of(model, text, [1] * 90) for text in ids]
    for sizes in ([90], [50, 1, 6, 3, 2, 8, 20], [64, 26], [7] * 12 + [6]):
        assert torch.equal(logits_of(model, ids[0], sizes), alone[0])
    memory = KvMemory(400)
    slots, parts = [memory.open(90), memory.open(90)], [([], []), ([], [])]
    for sizes in ((60, 3), (1, 30), (6, 1), (23, 56)):
        starts = [slot.length for slot in slots]
        blocks = [
            Block(slot, text[start : start + size])
            for slot, text, start, size in zip(slots, ids, starts, sizes, strict=True)
        ]
        for outputs, output in zip(parts, model.forward(blocks), strict=True):
            outputs[0].append(output.logits)
    for (outputs, _), expected in zip(parts, alone, strict=True):
        assert torch.equal(torch.cat(outputs), expected)


def load(folder: Path, quantization: Quantization) -> PackedCausalLM:
    return accelerate(load_causal_lm(folder, "cpu", "target"), quantization)


def logits_of(model: PackedCausalLM, ids: Any, sizes: list[int]) -> torch.Tensor:
    slot, outputs = KvMemory(400).open(len(ids)), []
    for size in sizes:
        outputs.append(model.forward([Block(slot, ids[slot.length : slot.length + size])])[0].logits)
    return torch.cat(outputs)


@pytest.mark.parametrize("quantization", ROUNDED)
def test_a_rounded_model_is_near_the_float32_one(quantization: Quantization, tmp_path: Path) -> None:
    folder = make_llama(tmp_path)
    ids = np.random.default_rng(0).integers(0, VOCAB_SIZE, 60).astype(np.int32)
    exact, rounded = load(folder, "none"), load(folder, quantization)
    expected, actual = logits_of(exact, ids, [60]), logits_of(rounded, ids, [60])
    assert 0 < (actual - expected).norm() < 8 * ERRORS[quantization] * expected.norm()
    assert isinstance(rounded.network, LeanNetwork)
    assert isinstance(rounded.model.lm_head, QuantizedLinear)


def test_a_model_without_lean_layers_is_rounded_too(tmp_path: Path) -> None:
    model = load(MAKERS["granite"](tmp_path), "int8")
    assert isinstance(model.network, PaddedNetwork)
    assert not any(type(module) is nn.Linear for module in model.model.modules())
