"""Drafts on static buffers are those of the usual loop, for every head of a bank and at every point of an answer."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from hedgespec.config import Device, DrafterConfig
from hedgespec.models.drafting.chain_draft import ChainDraft
from hedgespec.models.eagle3.head import Eagle3Head
from hedgespec.models.eagle3.head_bank import HeadBank
from hedgespec.models.eagle3.head_drafters import HeadDrafter, MakeBank, load_eagle3_drafters
from hedgespec.models.graphs.static_drafts import ChainStart, Drawn, StaticDrafts, use_static_drafts
from hedgespec.models.lean.lean_heads import LeanPasses, lean_bank
from hedgespec.types import DraftRequest, DraftTree, FeatureBlock, Observation, SamplingParams
from tests.engine_sessions import GREEDY, make_spec, random_ids
from tests.model_folders import HIDDEN_SIZE, VOCAB_SIZE, make_eagle3

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
NUM_PROMPT, NUM_TOKENS, NUM_ROUNDS, LENGTH = 9, 60, 12, 5
PENALISED = SamplingParams(temperature=0.0, repetition_penalty=1.3)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [make_eagle3(tmp_path_factory.mktemp("head"), seed=seed) for seed in range(2)]


class Loaded:
    """Two heads and their bank. is_lean: with the CPU door open"""

    def __init__(self, folders: list[Path], device: Device, is_lean: bool = True) -> None:
        self.bank: HeadBank

        def make_bank(heads: Sequence[Eagle3Head], _: DrafterConfig) -> HeadBank:
            self.bank = lean_bank(heads) if is_lean else HeadBank(heads)
            return self.bank

        self.drafters = _load(folders, device, make_bank)

    @property
    def static(self) -> StaticDrafts:
        found = self.bank.shortcuts[0]
        assert isinstance(found, StaticDrafts)
        return found


def load(folders: list[Path], device: Device) -> dict[str, HeadDrafter]:
    return Loaded(folders, device).drafters


def _load(folders: list[Path], device: Device, make_bank: MakeBank) -> dict[str, HeadDrafter]:
    embedding = torch.randn((VOCAB_SIZE, HIDDEN_SIZE), generator=torch.Generator().manual_seed(1))
    made = enumerate(map(str, folders))
    configs = [DrafterConfig(id=f"h{i}", kind="eagle3", model=f, device=device, quantization="none") for i, f in made]
    return load_eagle3_drafters(configs, embedding, HIDDEN_SIZE, make_bank)


def drafts_of(drafters: dict[str, HeadDrafter]) -> list[DraftTree]:
    """Sessions of two heads that grow, with a hole in the features, of several lengths and methods, one with penalties."""
    rng = np.random.default_rng(3)
    sessions = {
        "a": ("h0", GREEDY),
        "b": ("h1", GREEDY),
        "c": ("h0", PENALISED),
        "d": ("h0", GREEDY),
        "e": ("h1", SamplingParams(temperature=0.9, top_p=0.9)),
        "f": ("h1", SamplingParams(temperature=1.5, top_k=20)),
        "g": ("h0", SamplingParams(temperature=1.0, seed=5)),
    }
    ids = {name: random_ids(NUM_PROMPT + NUM_TOKENS, seed) for seed, name in enumerate(sessions)}
    rows = {name: rng.normal(size=(NUM_PROMPT + NUM_TOKENS, 3 * HIDDEN_SIZE)).astype(np.float32) for name in sessions}
    for name, (head, sampling) in sessions.items():
        drafters[head].open(make_spec(ids[name][:NUM_PROMPT], name, sampling))
        drafters[head].push(FeatureBlock(name, 0, rows[name][: NUM_PROMPT - 1]))
    trees: list[DraftTree] = []
    num_observed = dict.fromkeys(sessions, 0)
    for round_index in range(NUM_ROUNDS):
        asked = [
            DraftRequest(name, round_index, LENGTH if name != "d" else 1 + round_index % 8, drafter_id=head)
            for name, (head, _) in sessions.items()
            if (name, round_index) != ("b", 4)
        ]
        trees += drafters["h0"].draft(asked)
        for name, (head, _) in sessions.items():
            start, end = num_observed[name], num_observed[name] + 1 + (round_index + len(name)) % 4
            first, last = NUM_PROMPT + start, NUM_PROMPT + end
            if (name, round_index) != ("a", 3):
                drafters[head].push(FeatureBlock(name, first - 1, rows[name][first - 1 : last - 1]))
            probs = np.full(end - start, 0.5, np.float32)
            drafters[head].observe(name, Observation(start, ids[name][first:last], probs, wants_scores=False))
            num_observed[name] = end
    for name, (head, _) in sessions.items():
        drafters[head].close(name)
    return trees


def assert_same(tree: DraftTree, other: DraftTree) -> None:
    np.testing.assert_array_equal(tree.token_ids, other.token_ids)
    assert tree.drafter_id == other.drafter_id
    assert (tree.draft_probs is None) == (other.draft_probs is None)
    if tree.draft_probs is not None and other.draft_probs is not None:
        np.testing.assert_array_equal(tree.draft_probs.offsets, other.draft_probs.offsets)
        np.testing.assert_array_equal(tree.draft_probs.ids, other.draft_probs.ids)
        np.testing.assert_allclose(tree.draft_probs.probs, other.draft_probs.probs, rtol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("is_lean", [True, False], ids=["lean", "plain"])
@pytest.mark.parametrize(
    ("num_lanes", "capacity"), [(4, 96), (1, 96), (4, 30)], ids=["all", "few lanes", "short lanes"]
)
def test_drafts_are_those_of_the_usual_loop(
    folders: list[Path], device: Device, is_lean: bool, num_lanes: int, capacity: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, other = Loaded(folders, device, is_lean), Loaded(folders, device, is_lean)
    use_static_drafts(other.bank, num_lanes, capacity)
    static = other.static
    num_drafted, inner = [0], static.draft

    def draft(bank: HeadBank, head_index: int, starts: Sequence[ChainStart], drafts: Sequence[ChainDraft]) -> Drawn:
        num_drafted[0] += len(drafts)
        return inner(bank, head_index, starts, drafts)

    monkeypatch.setattr(static, "draft", draft)
    expected, found = drafts_of(usual.drafters), drafts_of(other.drafters)
    assert len(expected) == 7 * NUM_ROUNDS - 1
    for pair in zip(found, expected, strict=True):
        assert_same(*pair)
    without_penalties = 6 * NUM_ROUNDS - 1
    if (num_lanes, capacity) == (4, 96):
        assert num_drafted[0] == without_penalties
    else:
        assert 0 < num_drafted[0] < without_penalties
    assert static.lanes.num_free == 2 * num_lanes


def test_loops_of_the_usual_length_are_made_when_the_head_is_loaded(folders: list[Path]) -> None:
    made: list[int] = []
    num_loops = use_static_drafts(Loaded(folders, "cpu").bank, 2, 600, made.append)
    assert num_loops == 2 * 2 * 2, "two heads, contexts of 512 and 600 rows, greedy and sampled"
    assert made == [num_loops] * num_loops


def test_a_graph_that_fails_costs_no_draft(folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A capture at the first use of a length may fail long after the start."""
    usual, other = load(folders, "cpu"), Loaded(folders, "cpu")
    use_static_drafts(other.bank, 4, 96)

    def fail(*_: object) -> None:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    monkeypatch.setattr(other.static, "draft", fail)
    for pair in zip(drafts_of(other.drafters), drafts_of(usual), strict=True):
        assert_same(*pair)
    assert other.static.has_failed


def test_whole_chains_are_those_of_one_step_after_the_other(folders: list[Path]) -> None:
    """A draft is one call without buffers and graphs too; here it is compared with a call for every token."""
    whole, stepped = drafts_of(load(folders, "cpu")), Loaded(folders, "cpu")
    stepped.bank.shortcuts.clear()
    for pair in zip(whole, drafts_of(stepped.drafters), strict=True):
        assert_same(*pair)


@pytest.mark.parametrize("is_lean", [True, False], ids=["lean", "plain"])
def test_a_dropped_bank_is_freed_at_once(folders: list[Path], is_lean: bool) -> None:
    """Benchmarks make one after the other on one GPU; none must wait for the garbage collector."""
    loaded = Loaded(folders, "cpu", is_lean)
    use_static_drafts(loaded.bank, 2, 96)
    drafts_of(loaded.drafters)
    bank = weakref.ref(loaded.bank)
    passes = weakref.ref(loaded.bank.passes)
    gc.disable()
    try:
        del loaded
        assert bank() is None
        assert passes() is None
    finally:
        gc.enable()


def test_passes_run_without_the_interpreter(folders: list[Path]) -> None:
    passes = Loaded(folders, "cpu").bank.passes
    assert isinstance(passes, LeanPasses)
    assert isinstance(passes.stack, torch.jit.ScriptModule)
