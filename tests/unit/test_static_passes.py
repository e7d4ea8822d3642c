"""Static passes give what packed passes give: sessions join, grow, are cropped, outgrow their lanes and leave."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from hedgespec.config import TargetConfig
from hedgespec.engine.graphs import decode_in_graphs
from hedgespec.models.causal_lm.block import Block, BlockOutput
from hedgespec.models.causal_lm.folder import load_causal_lm
from hedgespec.models.causal_lm.packed import PackedCausalLM
from hedgespec.models.graphs.buckets import BLOCKS, Bucket, Buckets
from hedgespec.models.graphs.kv_lanes import KvLanes
from hedgespec.models.graphs.static_attention import StaticAttention
from hedgespec.models.graphs.static_passes import StaticPasses, use_static_passes
from hedgespec.models.lean.lean_network import accelerate
from hedgespec.models.memory.kv_memory import KvMemory, KvSlot
from tests.engine_sessions import random_ids
from tests.model_folders import make_gemma, make_llama, make_mistral, make_qwen2, make_qwen3

MAKERS = {"llama": make_llama, "qwen2": make_qwen2, "qwen3": make_qwen3, "mistral": make_mistral, "gemma": make_gemma}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
NUM_LANES, CAPACITY = 3, 48

Loader = Callable[[str], PackedCausalLM]


class Story:
    """The same calls of a model, whatever passes it takes. Tokens are random; `keeps` says how many of a block stay."""

    def __init__(self, model: PackedCausalLM) -> None:
        self.model = model
        self.memory = KvMemory(4096)
        self.slots: dict[str, KvSlot] = {}
        self.outputs: list[BlockOutput] = []
        self._seed = 0

    def open(self, name: str, num_prompt: int) -> None:
        self.slots[name] = self.memory.open(128)
        self.run({name: num_prompt}, keeps={name: num_prompt})

    def close(self, name: str) -> None:
        self.memory.free(self.slots.pop(name))

    def run(self, sizes: dict[str, int], keeps: dict[str, int], tree: str | None = None) -> None:
        blocks = []
        for name, size in sizes.items():
            self._seed += 1
            parent = np.array([-1, 0, 0, 1, 1][:size], np.int32) if name == tree else None
            blocks.append(Block(self.slots[name], random_ids(size, self._seed), parent, wants_features=True))
        outputs = self.model.forward(blocks)
        self.outputs += [BlockOutput(output.logits.clone(), output.features) for output in outputs]
        for name, size in sizes.items():
            self.slots[name].length -= size - keeps[name]

    def play(self) -> list[BlockOutput]:
        self.open("a", 13)
        self.run({"a": 4}, {"a": 2})
        self.open("b", 15)
        for kept in (1, 3, 6):
            self.run({"a": 6, "b": 3}, {"a": kept, "b": 1 + kept // 3})
        self.open("c", 20)
        self.run({"b": 5, "a": 1, "c": 2}, {"b": 1, "a": 1, "c": 2}, tree="b")
        self.open("d", 14)  # finds no lane
        self.run({"d": 6, "c": 6, "b": 6, "a": 6}, {"d": 6, "c": 6, "b": 3, "a": 1})
        for _ in range(4):  # "c" outgrows its lane
            self.run({"c": 6, "d": 2}, {"c": 5, "d": 1})
        self.close("a")
        self.run({"d": 3, "b": 8}, {"d": 2, "b": 3})
        self.close("b")
        self.close("d")
        self.run({"c": 12}, {"c": 4})
        self.close("c")
        return self.outputs


@pytest.fixture(scope="module", params=MAKERS)
def load(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loader:
    folder: Path = MAKERS[request.param](tmp_path_factory.mktemp(request.param))
    return lambda device: accelerate(load_causal_lm(folder, device, "target"))  # type: ignore[arg-type]


def passes_of(model: PackedCausalLM) -> StaticPasses:
    assert isinstance(model.run_blocks, StaticPasses)
    return model.run_blocks


@pytest.mark.parametrize("device", DEVICES)
def test_every_output_is_that_of_packed_passes(load: Loader, device: str) -> None:
    packed, static = load(device), load(device)
    num_passes = use_static_passes(static, NUM_LANES, CAPACITY)
    assert num_passes == len(list(Buckets(NUM_LANES, CAPACITY)))
    expected, story = Story(packed).play(), Story(static)
    tolerance = 1e-4 if device == "cpu" else 0.1  # bfloat16, and other kernels
    for own, other in zip(story.play(), expected, strict=True):
        torch.testing.assert_close(own.logits, other.logits, atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(own.features, other.features, atol=tolerance, rtol=tolerance)
    assert passes_of(static).lanes.num_free == NUM_LANES
    assert story.memory.num_reserved_tokens == 0


def test_what_fits_is_decoded_in_static_passes(load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed passes get no block that a static pass can take; else the test above would compare packed passes with
    themselves."""
    model = load("cpu")
    use_static_passes(model, NUM_LANES, CAPACITY)
    packed: list[int] = []
    inner = model.packed_pass

    def count(blocks: Sequence[Block]) -> list[BlockOutput]:
        packed.extend(block.num_rows for block in blocks)
        return inner(blocks)

    monkeypatch.setattr(model, "packed_pass", count)
    Story(model).play()
    prompts, tree = [13, 15, 20, 14], [5]
    # "d" has no lane until "c" has left its own, which then stays without
    assert sorted(packed) == sorted([*prompts, *tree, 6, 2, 2, 2, 6, 12])


def test_a_graph_that_fails_costs_no_round(load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph may fail even after it has written its rows; nothing is decoded in graphs after it."""
    packed, static = load("cpu"), load("cpu")
    use_static_passes(static, NUM_LANES, CAPACITY)
    num_calls, inner = [0], passes_of(static).decode

    def decode(blocks: Sequence[Block]) -> dict[int, BlockOutput]:
        num_calls[0] += 1
        outputs = inner(blocks)
        if num_calls[0] == 6:
            raise RuntimeError("CUDA error: an illegal instruction was encountered")
        return outputs

    monkeypatch.setattr(passes_of(static), "decode", decode)
    for own, other in zip(Story(static).play(), Story(packed).play(), strict=True):
        torch.testing.assert_close(own.logits, other.logits, atol=1e-4, rtol=1e-4)
    assert num_calls == [6]
    assert static.run_blocks is PackedCausalLM.packed_pass


def test_passes_that_compute_something_else_do_not_serve(load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    """The target finds out before the first request that a row does not see itself, and goes on without these passes."""
    model = load("cpu")
    whole = StaticAttention._mask

    def without_diagonal(attention: StaticAttention, window: int | None) -> torch.Tensor:
        columns = torch.arange(attention._context)
        return whole(attention, window) & (columns != attention._rows[..., None])

    monkeypatch.setattr(StaticAttention, "_mask", without_diagonal)
    use = partial(decode_in_graphs, "target", partial(use_static_passes, model))
    config = TargetConfig(max_sessions=2, max_cached_tokens=256)
    assert not use(config)
    assert model.run_blocks is PackedCausalLM.packed_pass
    monkeypatch.undo()
    assert use(config)
    assert passes_of(model).lanes.num_free == 2


def test_a_model_is_freed_as_soon_as_it_is_dropped(load: Loader) -> None:
    """The doors put no reference to a model into the model: its memory must not wait for the garbage collector."""
    model = load("cpu")
    use_static_passes(model, NUM_LANES, CAPACITY)
    gc.disable()
    try:
        dropped = weakref.ref(model)
        del model
        assert dropped() is None
    finally:
        gc.enable()


def test_buckets_are_the_smallest_that_fit() -> None:
    buckets = Buckets(max_batch=5, max_context=1500)
    assert buckets.smallest(1, 1, 0) == Bucket(1, 1, 512)
    assert buckets.smallest(3, 5, 506) == Bucket(4, 6, 512)
    assert buckets.smallest(3, 5, 507) == Bucket(4, 6, 1024)
    assert buckets.smallest(5, 8, 1492) == Bucket(5, 8, 1500)
    assert buckets.smallest(5, 8, 1493) is None
    assert buckets.smallest(6, 1, 0) is None
    assert buckets.smallest(1, max(BLOCKS) + 1, 0) is None
    assert len(set(buckets)) == len(list(buckets)) == 4 * 3 * len(BLOCKS)


def test_a_lane_is_left_by_growing_out_of_it_and_by_freeing() -> None:
    memory = KvMemory(1000)
    first, second, third = (memory.open(100) for _ in range(3))
    rows = torch.arange(8.0).view(1, 1, 4, 2)
    for slot in (first, second, third):
        slot.require(4)
        slot.write(0, rows, 2 * rows, 0)
        slot.length = 3
    lanes = KvLanes(2, 10, first.layers)
    assert lanes.lane_of(first, 11) is None
    assert {lanes.lane_of(first, 4), lanes.lane_of(second, 10)} == {0, 1}
    assert lanes.lane_of(third, 4) is None
    lane = lanes.lane_of(first, 10)
    torch.testing.assert_close(lanes.layers[0][1][lane, :, :3], 2 * rows[0, :, :3])
    first.require(11)
    assert lanes.num_free == 1
    torch.testing.assert_close(first.layers[0][0][:, :, :3], rows[:, :, :3])
    assert lanes.lane_of(third, 4) == lane
    memory.free(second)
    memory.free(second)
    assert lanes.num_free == 1
