"""Drafts on static buffers are those of the usual loop, for every head of a bank and at every point of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from hedgespec.config import Device, DrafterConfig
from hedgespec.models.eagle3.drafter import Eagle3Drafter
from hedgespec.models.eagle3.loading import load_eagle3_drafters
from hedgespec.models.graphs.chain_replay import Chains
from hedgespec.models.graphs.static_drafts import Member
from hedgespec.types import DraftRequest, DraftTree, FeatureBlock, Method, Observation, SamplingParams
from tests.engine_sessions import GREEDY, make_spec, random_ids
from tests.model_folders import HIDDEN_SIZE, VOCAB_SIZE, make_eagle3

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
NUM_PROMPT, NUM_TOKENS, NUM_ROUNDS, LENGTH = 9, 60, 12, 5
PENALISED = SamplingParams(temperature=0.0, repetition_penalty=1.3)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [make_eagle3(tmp_path_factory.mktemp("head"), seed=seed) for seed in range(2)]


def load(folders: list[Path], device: Device) -> dict[str, Eagle3Drafter]:
    embedding = torch.randn((VOCAB_SIZE, HIDDEN_SIZE), generator=torch.Generator().manual_seed(1))
    made = enumerate(map(str, folders))
    configs = [DrafterConfig(id=f"h{i}", kind="eagle3", model=f, device=device, quantization="none") for i, f in made]
    return load_eagle3_drafters(configs, embedding, HIDDEN_SIZE)


def drafts_of(drafters: dict[str, Eagle3Drafter]) -> list[DraftTree]:
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
    told = dict.fromkeys(sessions, 0)
    for round_index in range(NUM_ROUNDS):
        asked = [
            DraftRequest(name, round_index, LENGTH if name != "d" else 1 + round_index % 8, drafter_id=head)
            for name, (head, _) in sessions.items()
            if (name, round_index) != ("b", 4)
        ]
        trees += drafters["h0"].draft(asked)
        for name, (head, _) in sessions.items():
            start, end = told[name], told[name] + 1 + (round_index + len(name)) % 4
            first, last = NUM_PROMPT + start, NUM_PROMPT + end
            if (name, round_index) != ("a", 3):
                drafters[head].push(FeatureBlock(name, first - 1, rows[name][first - 1 : last - 1]))
            probs = np.full(end - start, 0.5, np.float32)
            drafters[head].observe(name, Observation(start, ids[name][first:last], probs, wants_scores=False))
            told[name] = end
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
@pytest.mark.parametrize(
    ("num_lanes", "capacity"), [(4, 96), (1, 96), (4, 30)], ids=["all", "few lanes", "short lanes"]
)
def test_drafts_are_those_of_the_usual_loop(
    folders: list[Path], device: Device, num_lanes: int, capacity: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, static = load(folders, device), load(folders, device)
    Eagle3Drafter.use_static_drafts(list(static.values()), num_lanes, capacity)
    buffers = static["h0"].static_drafts
    assert buffers is not None
    assert static["h1"].static_drafts is buffers
    num_drafted, inner = [0], buffers.draft

    def draft(place: int, members: Sequence[Member], num_tokens: int, method: Method) -> Chains:
        num_drafted[0] += len(members)
        return inner(place, members, num_tokens, method)

    monkeypatch.setattr(buffers, "draft", draft)
    expected, found = drafts_of(usual), drafts_of(static)
    assert len(expected) == 7 * NUM_ROUNDS - 1
    for tree, other in zip(found, expected, strict=True):
        assert_same(tree, other)
    without_penalties = 6 * NUM_ROUNDS - 1
    if (num_lanes, capacity) == (4, 96):
        assert num_drafted[0] == without_penalties
    else:
        assert 0 < num_drafted[0] < without_penalties
    assert buffers.lanes.num_free == 2 * num_lanes


def test_loops_of_the_usual_length_are_made_when_the_head_is_loaded(folders: list[Path]) -> None:
    made: list[int] = []
    drafters = list(load(folders, "cpu").values())
    num_loops = Eagle3Drafter.use_static_drafts(drafters, 2, 600, made.append)
    assert num_loops == 2 * 2 * 2, "two heads, contexts of 512 and 600 rows, greedy and sampled"
    assert made == [num_loops] * num_loops


def test_a_graph_that_fails_costs_no_draft(folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A capture at the first use of a length may fail long after the start."""
    usual, static = load(folders, "cpu"), load(folders, "cpu")
    Eagle3Drafter.use_static_drafts(list(static.values()), 4, 96)

    def fail(*_: object) -> None:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    assert static["h0"].static_drafts is not None
    monkeypatch.setattr(static["h0"].static_drafts, "draft", fail)
    for tree, other in zip(drafts_of(static), drafts_of(usual), strict=True):
        assert_same(tree, other)
    assert static["h1"].static_drafts is static["h0"].static_drafts
    assert static["h0"].static_drafts.has_failed


def test_whole_chains_are_those_of_one_step_after_the_other(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without buffers and graphs too a draft is one call; here it is compared with a call for every token."""
    whole = drafts_of(load(folders, "cpu"))
    monkeypatch.setattr("hedgespec.models.eagle3.drafter.complete_chains", lambda *_: None)
    for tree, other in zip(whole, drafts_of(load(folders, "cpu")), strict=True):
        assert_same(tree, other)


def test_passes_run_without_the_interpreter(folders: list[Path]) -> None:
    for drafter in load(folders, "cpu").values():
        assert isinstance(drafter._bank.stack, torch.jit.ScriptModule)
