"""Speed stands behind two doors that can be taken away: without them every model gives the same tokens, only later."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from hedgespec.models.causal_lm.block import Block, BlockOutput
from hedgespec.models.causal_lm.folder import load_causal_lm
from hedgespec.models.causal_lm.network import Inputs, Network
from hedgespec.models.causal_lm.packed import PackedCausalLM
from hedgespec.models.graphs.static_passes import StaticPasses, use_static_passes
from hedgespec.models.lean.lean_layer import LeanLayer
from hedgespec.models.lean.lean_network import LeanNetwork, accelerate
from tests.doors import DOORS, NUM_DRAFT_TOKENS, NUM_TOKENS, PROMPT, Speculation, speculate
from tests.model_folders import MAKERS

pytestmark = pytest.mark.timeout(180)  # a process imports torch and transformers

LEAN_THROUGHOUT = set(MAKERS) - {"gemma", "granite"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in MAKERS.items()}


@pytest.fixture(scope="module")
def shut(folders: dict[str, Path]) -> dict[str, Speculation]:
    """Kind of model -> its run in a process that cannot import what is behind the doors."""
    command = [sys.executable, "-m", "tests.doors", *map(str, folders.values())]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=170, check=False, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["behind doors"] == []
    return {name: Speculation(**report["found"][str(folder)]) for name, folder in folders.items()}


@torch.inference_mode()
def generated(folder: Path) -> list[int]:
    """transformers' own greedy text."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.tensor(PROMPT[None].tolist())
    options = {"max_new_tokens": NUM_TOKENS, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    return model.generate(ids, attention_mask=torch.ones_like(ids), **options)[0, len(PROMPT) :].tolist()


def opened(folder: Path) -> PackedCausalLM:
    """A model with both doors open; off CUDA static passes run without graphs."""
    model = accelerate(load_causal_lm(folder, "cpu", "target"))
    use_static_passes(model, 2, 64)
    return model


@pytest.mark.parametrize("name", sorted(MAKERS))
async def test_tokens_and_drafts_are_the_same_with_open_doors_with_shut_ones_and_as_transformers_generates(
    name: str, folders: dict[str, Path], shut: dict[str, Speculation], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drafter of the target's own weights drafts the target's text, so that every round but the last accepts it all."""
    expected = generated(folders[name])
    target, drafter = opened(folders[name]), opened(folders[name])
    num_static = count_static_blocks(target, monkeypatch)
    found = await speculate(target, drafter)
    assert num_static() == len(found.drafts)
    assert found == shut[name]
    assert found.ids == expected
    step = NUM_DRAFT_TOKENS + 1
    assert found.drafts == [expected[first : first + NUM_DRAFT_TOKENS] for first in range(0, NUM_TOKENS, step)]


def count_static_blocks(model: PackedCausalLM, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Count the blocks that the graphs door computes."""
    passes, counts = model.run_blocks, []
    assert isinstance(passes, StaticPasses)
    inner = passes.decode

    def decode(blocks: Sequence[Block]) -> dict[int, BlockOutput]:
        outputs = inner(blocks)
        counts.append(len(outputs))
        return outputs

    monkeypatch.setattr(passes, "decode", decode)
    return lambda: sum(counts)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs torch with oneDNN")
def test_an_open_door_is_used(folders: dict[str, Path]) -> None:
    """An open door computes blocks; else the test above would compare the plain path with itself."""
    for name, folder in folders.items():
        model = opened(folder)
        assert isinstance(model.network, LeanNetwork) == (name in LEAN_THROUGHOUT)
        assert any(isinstance(layer, LeanLayer) for layer in model.layers) == (name != "granite")


class OffByOne:
    """A door that computes something else: every token is the one after the right one."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def __call__(self, inputs: Inputs, tapped: Collection[int]) -> tuple[Tensor, list[Tensor]]:
        logits, taps = self._network(inputs, tapped)
        return logits.roll(1, dims=-1), taps

    def padded_rows(self, num_rows: int) -> int:
        return num_rows


async def test_a_door_that_computes_something_else_changes_the_tokens(
    folders: dict[str, Path], shut: dict[str, Speculation]
) -> None:
    """The comparison is able to fail."""
    target, drafter = (load_causal_lm(folders["llama"], "cpu", "target") for _ in range(2))
    target.network = OffByOne(target.network)
    found = await speculate(target, drafter)
    assert found.ids != shut["llama"].ids
    target, drafter = (load_causal_lm(folders["llama"], "cpu", "target") for _ in range(2))
    drafter.network = OffByOne(drafter.network)
    found = await speculate(target, drafter)
    assert found.ids == shut["llama"].ids
    assert found.drafts != shut["llama"].drafts


@pytest.mark.parametrize("door", DOORS)
def test_the_process_with_shut_doors_cannot_open_them(door: str) -> None:
    program = f"import sys; from tests.doors import ShutDoors; sys.meta_path.insert(0, ShutDoors()); import {door}"
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=Path(__file__).parents[2]
    )
    assert f"{door} is shut" in done.stderr
