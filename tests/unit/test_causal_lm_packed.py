"""The packed runner computes what transformers computes, whatever is packed together and however it is cut; so does the
same runner behind the CPU door."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from hedgespec.models.causal_lm.block import Block, BlockOutput
from hedgespec.models.causal_lm.folder import load_causal_lm
from hedgespec.models.causal_lm.packed import PackedCausalLM
from hedgespec.models.lean.lean_network import accelerate
from hedgespec.models.memory.kv_memory import KvMemory
from tests.model_folders import MAKERS, VOCAB_SIZE, make_llama, make_qwen3

TOLERANCE = 1e-4


class Reference:
    """transformers' own eager forward of the same folder."""

    def __init__(self, folder: Path) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)

    @torch.inference_mode()
    def logits(self, ids: np.ndarray) -> torch.Tensor:
        return self._model(torch.tensor(ids[None].astype(np.int64))).logits[0]

    @torch.inference_mode()
    def features(self, ids: np.ndarray, layers: tuple[int, ...]) -> torch.Tensor:
        hidden = self._model(torch.tensor(ids[None].astype(np.int64)), output_hidden_states=True).hidden_states
        return torch.cat([hidden[layer][0] for layer in layers], dim=-1)


@pytest.fixture(scope="module", params=sorted(MAKERS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MAKERS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module", params=["plain", "accelerated"])
def model(request: pytest.FixtureRequest, folder: Path) -> PackedCausalLM:
    loaded = load_causal_lm(folder, "cpu", "target")
    return accelerate(loaded) if request.param == "accelerated" else loaded


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    return Reference(folder)


def random_ids(num_tokens: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, VOCAB_SIZE, num_tokens).astype(np.int32)


def run(model: PackedCausalLM, blocks: list[Block]) -> list[BlockOutput]:
    return model.forward(blocks)


def assert_close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_logits_of_a_whole_prompt_equal_transformers(model: PackedCausalLM, reference: Reference) -> None:
    ids = random_ids(40)
    (output,) = run(model, [Block(KvMemory(64).open(40), ids)])
    assert_close(output.logits, reference.logits(ids))


def test_a_prompt_in_chunks_equals_the_prompt_at_once(model: PackedCausalLM, reference: Reference) -> None:
    ids = random_ids(90, seed=1)
    slot = KvMemory(90).open(90)
    cuts = [0, 1, 8, 9, 33, 70, 90]
    outputs = [run(model, [Block(slot, ids[a:b])])[0].logits for a, b in pairwise(cuts)]
    assert_close(torch.cat(outputs), reference.logits(ids))


def test_sessions_of_different_lengths_share_a_pass_without_touching_each_other(
    model: PackedCausalLM, reference: Reference
) -> None:
    memory = KvMemory(200)
    texts = [random_ids(n, seed=n) for n in (5, 17, 30)]
    slots = [memory.open(40) for _ in texts]
    run(model, [Block(slot, ids[:-3]) for slot, ids in zip(slots, texts, strict=True)])
    outputs = run(model, [Block(slot, ids[-3:]) for slot, ids in zip(slots, texts, strict=True)])
    for output, ids in zip(outputs, texts, strict=True):
        assert_close(output.logits, reference.logits(ids)[-3:])


def test_a_rejected_draft_leaves_no_trace(model: PackedCausalLM, reference: Reference) -> None:
    ids, draft = random_ids(20, seed=3), random_ids(5, seed=4)
    slot = KvMemory(64).open(30)
    run(model, [Block(slot, ids[:12])])
    run(model, [Block(slot, np.concatenate([ids[12:13], draft]))])
    slot.keep(12, [12])
    (output,) = run(model, [Block(slot, ids[13:])])
    assert_close(output.logits, reference.logits(ids)[13:])


def test_a_tree_equals_its_branches_decoded_one_by_one(model: PackedCausalLM, reference: Reference) -> None:
    prompt, tree = random_ids(15, seed=5), random_ids(6, seed=6)
    parent = np.array([-1, 0, 0, 1, 2, 4], np.int32)
    paths = [[0], [0, 1], [0, 2], [0, 1, 3], [0, 2, 4], [0, 2, 4, 5]]
    slot = KvMemory(64).open(40)
    run(model, [Block(slot, prompt)])
    (output,) = run(model, [Block(slot, tree, parent)])
    for row, path in enumerate(paths):
        assert_close(output.logits[row], reference.logits(np.concatenate([prompt, tree[path]]))[-1])


def test_the_accepted_path_of_a_tree_is_compacted(model: PackedCausalLM, reference: Reference) -> None:
    prompt, tree, rest = random_ids(15, seed=5), random_ids(6, seed=6), random_ids(4, seed=7)
    slot = KvMemory(64).open(40)
    run(model, [Block(slot, prompt)])
    run(model, [Block(slot, tree, np.array([-1, 0, 0, 1, 2, 4], np.int32))])
    slot.keep(15, [15, 17, 19])
    (output,) = run(model, [Block(slot, rest)])
    assert_close(output.logits, reference.logits(np.concatenate([prompt, tree[[0, 2, 4]], rest]))[-4:])


def test_features_are_what_enters_layers_2_half_and_last_but_two(model: PackedCausalLM, reference: Reference) -> None:
    ids = random_ids(25, seed=8)
    slot = KvMemory(64).open(25)
    parts = [run(model, [Block(slot, ids[a:b], wants_features=True)])[0].features for a, b in ((0, 11), (11, 25))]
    assert_close(torch.cat([part for part in parts if part is not None]), reference.features(ids, (2, 3, 3)))


def test_only_wanted_logits_and_features_are_returned(model: PackedCausalLM, reference: Reference) -> None:
    ids = random_ids(9)
    memory = KvMemory(64)
    first, second = run(
        model,
        [Block(memory.open(9), ids, logits_from=9), Block(memory.open(9), ids, logits_from=7, wants_features=True)],
    )
    assert len(first.logits) == 0
    assert first.features is None
    assert_close(second.logits, reference.logits(ids)[7:])
    assert second.features is not None
    assert second.features.shape == (9, model.feature_width)


@pytest.mark.parametrize("make", [make_llama, make_qwen3])
def test_a_shallow_model_gives_no_features_and_works_without(make: Callable[..., Path], tmp_path: Path) -> None:
    folder = make(tmp_path, num_hidden_layers=2)
    model = accelerate(load_causal_lm(folder, "cpu", "target"))
    ids = random_ids(6)
    (output,) = model.forward([Block(KvMemory(8).open(8), ids, wants_features=True)])
    assert model.feature_width == 0
    assert output.features is None
    assert_close(output.logits, Reference(folder).logits(ids))
