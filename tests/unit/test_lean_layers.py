"""Decoder layers are replaced where that changes nothing, and only there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from hedgespec.models.causal_lm.block import Block
from hedgespec.models.causal_lm.network import attention_implementation
from hedgespec.models.causal_lm.packed import PackedCausalLM
from hedgespec.models.lean.layer_replacement import lean_norm
from hedgespec.models.lean.lean_layer import LeanLayer
from hedgespec.models.lean.lean_network import LeanNetwork, PaddedNetwork, accelerate
from hedgespec.models.memory.kv_memory import KvMemory
from tests.model_folders import MAKERS, VOCAB_SIZE, make_gemma, make_granite, make_llama

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs torch with oneDNN")

LEAN = sorted(set(MAKERS) - {"gemma", "granite"})


def load(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    attention = attention_implementation()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation=attention)
    return model.eval().requires_grad_(False)


def perturb_norms(model: nn.Module) -> None:
    """Norms are saved as ones; weights that differ show whether they are used, and for the right feature."""
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.add_(0.5 * torch.rand_like(parameter))


def num_lean(model: Any) -> int:
    return sum(isinstance(layer, LeanLayer) for layer in model.model.layers)


@pytest.mark.parametrize("name", LEAN)
def test_a_known_model_is_lean_throughout_and_computes_the_same(name: str, tmp_path: Path) -> None:
    folder = MAKERS[name](tmp_path)
    plain, lean = load(folder), load(folder)
    perturb_norms(plain)
    perturb_norms(lean)
    expected, actual = runner_of(plain), accelerate(runner_of(lean))
    assert isinstance(actual.network, LeanNetwork)
    assert num_lean(lean) == len(lean.model.layers)
    torch.testing.assert_close(logits_of(actual), logits_of(expected), atol=1e-4, rtol=1e-4)


def runner_of(model: Any, device: str = "cpu") -> PackedCausalLM:
    return PackedCausalLM(model, "", torch.device(device))


def logits_of(runner: PackedCausalLM) -> torch.Tensor:
    """Return the logits of a text that is read in pieces of many rows and of one."""
    ids = np.random.default_rng(0).integers(0, VOCAB_SIZE, 30).astype(np.int32)
    slot = KvMemory(64).open(40)
    parts = ids[:20], ids[20:21], ids[21:27], ids[27:28], ids[28:]
    return torch.cat([runner.forward([Block(slot, part)])[0].logits for part in parts])


def test_layers_of_gemma_are_lean_but_not_its_scaled_embedding(tmp_path: Path) -> None:
    model = load(make_gemma(tmp_path))
    perturb_norms(model)
    runner = accelerate(runner_of(model))
    assert num_lean(model) == len(model.model.layers)
    assert isinstance(runner.network, PaddedNetwork)


def test_a_model_of_an_unknown_type_keeps_its_layers(tmp_path: Path) -> None:
    model = load(make_granite(tmp_path))
    accelerate(runner_of(model))
    assert num_lean(model) == 0


def test_a_layer_that_computes_something_else_is_not_replaced(tmp_path: Path) -> None:
    """The layer here scales its output, which no name and no shape gives away."""
    model = load(make_llama(tmp_path))
    odd = model.model.layers[1]
    forward = odd.forward
    odd.forward = lambda *args, **kwargs: forward(*args, **kwargs) * 1.01
    runner = accelerate(runner_of(model))
    assert model.model.layers[1] is odd
    assert num_lean(model) == len(model.model.layers) - 1
    assert isinstance(runner.network, PaddedNetwork)


def test_a_network_that_computes_something_else_is_left_to_transformers(tmp_path: Path) -> None:
    model = load(make_llama(tmp_path))
    model.model.embed_tokens.register_forward_hook(lambda module, args, states: states * 1.5)
    runner = accelerate(runner_of(model))
    assert num_lean(model) == len(model.model.layers)
    assert isinstance(runner.network, PaddedNetwork)


def test_other_types_than_float32_keep_their_layers(tmp_path: Path) -> None:
    model = load(make_llama(tmp_path), torch.bfloat16)
    accelerate(runner_of(model))
    assert num_lean(model) == 0


def test_norms_of_both_conventions_are_read_and_others_refused(tmp_path: Path) -> None:
    llama, gemma = load(make_llama(tmp_path / "llama")), load(make_gemma(tmp_path / "gemma"))
    perturb_norms(llama)
    perturb_norms(gemma)
    plain, shifted = lean_norm(llama.model.norm), lean_norm(gemma.model.norm)
    assert plain is not None
    assert shifted is not None
    torch.testing.assert_close(plain.weight, llama.model.norm.weight)
    torch.testing.assert_close(shifted.weight, 1.0 + gemma.model.norm.weight)
    assert lean_norm(nn.LayerNorm(32)) is None
    assert lean_norm(nn.Identity()) is None


def test_the_table_of_rotations_grows_with_the_positions(tmp_path: Path) -> None:
    """Rows beyond the first table get the rotations that transformers computes."""
    model = load(make_llama(tmp_path, max_position_embeddings=4096))
    network = accelerate(runner_of(model)).network
    assert isinstance(network, LeanNetwork)
    positions = torch.tensor([0, 1023, 1024, 3000, 4095])
    cosine, sine = model.model.rotary_emb(torch.zeros(1), positions.unsqueeze(0))
    half = cosine.shape[-1] // 2
    network._rotations.require(4096)
    actual = network._rotations.at(positions)[:, 0]
    torch.testing.assert_close(actual, torch.complex(cosine[0, :, :half], sine[0, :, :half]))


def test_rotations_that_depend_on_the_length_of_the_text_get_no_table(tmp_path: Path) -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    model = load(make_llama(tmp_path, rope_parameters=rope))
    runner = accelerate(runner_of(model))
    assert num_lean(model) == len(model.model.layers)
    assert isinstance(runner.network, PaddedNetwork)


def test_a_model_on_another_device_is_not_tried(tmp_path: Path) -> None:
    """Trials compute on the CPU: a model elsewhere must not get one (`meta` stands for every other device)."""
    model = load(make_llama(tmp_path)).to("meta")
    runner = runner_of(model, "meta")
    network = runner.network
    assert accelerate(runner).network is network
    assert num_lean(model) == 0


@pytest.mark.parametrize("name", LEAN)
def test_a_lean_network_runs_without_the_interpreter_and_computes_the_same(name: str, tmp_path: Path) -> None:
    """Many sessions at once, short and long pieces, trees and spare rows; torch compiles in the first passes."""
    model = load(MAKERS[name](tmp_path))
    runner = accelerate(runner_of(model))
    network = runner.network
    assert isinstance(network, LeanNetwork)
    assert isinstance(network._scripted, torch.jit.ScriptModule)
    expected = passes(runner, network._stack)
    for _ in range(3):
        torch.testing.assert_close(passes(runner, network._scripted), expected, atol=1e-5, rtol=1e-5)


def passes(runner: PackedCausalLM, stack: Any) -> torch.Tensor:
    """Logits and features of passes through `stack`."""
    runner.network._scripted = stack  # type: ignore[attr-defined]
    rng, memory = np.random.default_rng(0), KvMemory(1000)
    slots = [memory.open(60) for _ in range(3)]
    outputs = []
    for sizes in ((20, 1, 9), (1, 1, 1), (6, 5, 1), (2,)):
        blocks = [
            Block(slot, rng.integers(0, VOCAB_SIZE, size).astype(np.int32), wants_features=runner.feature_width > 0)
            for slot, size in zip(slots, sizes, strict=False)
        ]
        outputs += runner.forward(blocks)
    tree = np.array([-1, 0, 0, 1, 2], np.int32)
    outputs += runner.forward([Block(slots[0], np.arange(5, dtype=np.int32), tree)])
    rows = [output.logits.flatten() for output in outputs]
    return torch.cat(rows + [output.features.flatten() for output in outputs if output.features is not None])
