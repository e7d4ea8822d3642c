"""Drafters behind engines, together with a target: the whole of a round in one process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hedgespec.config import DrafterConfig, TargetConfig
from hedgespec.engine.factory import build_drafters, build_target
from hedgespec.engine.local import LocalDrafter, LocalFeatureTransport, LocalTarget
from hedgespec.errors import InvalidObservation, ModelFolderError, UnknownDrafter, UnknownSession
from hedgespec.models.drafter_model import Usage
from hedgespec.models.folder import weights_digest
from hedgespec.types import EMPTY_DRAFT, DraftRequest, Observation, SamplingParams, Scores, SparseRows
from tests.engine_sessions import GREEDY, decode, make_spec, observation_of, random_ids
from tests.model_folders import make_eagle3, make_llama

pytestmark = pytest.mark.timeout(180)  # six model threads share the cores with whatever else runs

DEPTH = 4
NUM_TOKENS = 20


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {
        "target": make_llama(root / "target"),
        "head": make_eagle3(root / "head"),
        "other": make_eagle3(root / "other", seed=1, draft_vocab_size=96),
        "small": make_llama(root / "small", seed=3, num_hidden_layers=1, hidden_size=16),
        "twin": make_llama(root / "twin"),
    }


class Process:
    def __init__(self, folders: dict[str, Path]) -> None:
        transport = LocalFeatureTransport()
        limits = {"max_sessions": 8, "max_cached_tokens": 8192, "prefix_cache_tokens": 0}
        target = TargetConfig(model=str(folders["target"]), **limits)
        configs = [
            DrafterConfig(id="head", kind="eagle3", model=str(folders["head"]), group="heads"),
            DrafterConfig(id="other", kind="eagle3", model=str(folders["other"]), group="heads"),
            DrafterConfig(id="small", kind="causal_lm", model=str(folders["small"])),
            DrafterConfig(id="twin", kind="causal_lm", model=str(folders["twin"])),
            DrafterConfig(id="ngram", kind="ngram"),
        ]
        self.target: LocalTarget = build_target(target, transport)
        self.drafters: dict[str, LocalDrafter] = build_drafters(configs, target)
        for drafter_id, drafter in self.drafters.items():
            transport.register(drafter_id, drafter)

    def stop(self) -> None:
        self.target.stop()
        for drafter in self.drafters.values():
            drafter.stop()


@pytest.fixture(scope="module")
def process(folders: dict[str, Path]) -> Iterator[Process]:
    running = Process(folders)
    yield running
    running.stop()


async def speculate(
    process: Process,
    prompt: np.ndarray,
    sampling: SamplingParams,
    chosen: list[str],
    session_id: str = "s",
    wants_scores: bool = True,
) -> tuple[list[int], dict[str, list[Scores]], int]:
    """The router's loop without a router: drafters take turns, all of them score. -> (ids, scores, rounds)"""
    sinks = tuple(d.feature_sink for d in process.drafters.values() if d.feature_sink)
    spec = make_spec(prompt, session_id, sampling, max_draft_tokens=DEPTH, score_depth="exact")
    await asyncio.gather(*(d.open(spec) for d in process.drafters.values()))
    await process.target.open(make_spec(prompt, session_id, sampling, max_draft_tokens=DEPTH, feature_sinks=sinks))
    emitted: list[int] = []
    scores: dict[str, list[Scores]] = {drafter_id: [] for drafter_id in process.drafters}
    rounds = 0
    while len(emitted) < NUM_TOKENS:
        tree = EMPTY_DRAFT
        if chosen:
            tree = await process.drafters[chosen[rounds % len(chosen)]].draft(DraftRequest(session_id, rounds, DEPTH))
        verdict = await process.target.verify(session_id, rounds, tree)
        observation = observation_of(verdict, len(emitted), wants_scores)
        answers = await asyncio.gather(*(d.observe(session_id, rounds, observation) for d in process.drafters.values()))
        for drafter_id, answer in zip(process.drafters, answers, strict=True):
            assert (answer is not None) == wants_scores
            scores[drafter_id] += [answer] if answer is not None else []
        emitted += verdict.token_ids.tolist()
        rounds += 1
    await asyncio.gather(process.target.close(session_id), *(d.close(session_id) for d in process.drafters.values()))
    return emitted[:NUM_TOKENS], scores, rounds


ALL = ["head", "other", "small", "twin", "ngram"]


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(temperature=0.8, seed=5)], ids=["greedy", "coupled"])
async def test_the_text_is_the_targets_with_every_drafter_and_with_switching(
    process: Process, sampling: SamplingParams
) -> None:
    prompt = random_ids(20, seed=1)
    expected = await decode(process.target, make_spec(prompt, sampling=sampling), NUM_TOKENS)
    for chosen in ([], *([drafter_id] for drafter_id in ALL), ALL):
        text, _, _ = await speculate(process, prompt, sampling, chosen, wants_scores=False)
        assert text == expected, chosen


async def test_a_drafter_equal_to_the_target_is_always_accepted(process: Process) -> None:
    for sampling in (GREEDY, SamplingParams(seed=1), SamplingParams(temperature=0.05)):
        _, scores, rounds = await speculate(process, random_ids(12, seed=2), sampling, ["twin"])
        assert rounds <= -(-NUM_TOKENS // (DEPTH + 1)) + 1
        acceptance = np.concatenate([s.acceptance for s in scores["twin"]])
        assert acceptance.shape[1] == 1
        assert acceptance.min() > 0.98


async def test_rejection_drafts_of_every_kind_are_valid(process: Process) -> None:
    for drafter_id in ALL:
        text, scores, _ = await speculate(
            process, random_ids(16, seed=3), SamplingParams(temperature=1.0), [drafter_id]
        )
        assert len(text) == NUM_TOKENS
        for own in scores.values():
            acceptance = np.concatenate([s.acceptance.ravel() for s in own])
            assert ((acceptance >= 0) & (acceptance <= 1)).all()


async def test_scores_cover_every_emitted_token_once(process: Process) -> None:
    _, scores, _ = await speculate(process, random_ids(16, seed=4), GREEDY, ALL)
    for own in scores.values():
        ends = [s.start + len(s.acceptance) for s in own]
        assert [s.start for s in own] == [0, *ends[:-1]]


async def test_sessions_at_the_same_time_equal_sessions_alone(process: Process) -> None:
    prompts = [random_ids(6 + 5 * n, seed=n) for n in range(3)]
    alone = [(await speculate(process, p, GREEDY, ALL, wants_scores=False))[0] for p in prompts]
    together = await asyncio.gather(
        *(speculate(process, p, GREEDY, ALL, session_id=f"t{n}", wants_scores=n == 0) for n, p in enumerate(prompts))
    )
    assert [text for text, _, _ in together] == alone


async def test_after_all_sessions_nothing_is_held(process: Process) -> None:
    await speculate(process, random_ids(16, seed=5), GREEDY, ALL)
    assert process.target.usage() == Usage()
    for drafter in process.drafters.values():
        assert drafter.usage() == Usage()


async def test_drafters_of_a_group_share_an_engine_and_others_do_not(process: Process) -> None:
    engines = {drafter_id: id(d._engine) for drafter_id, d in process.drafters.items()}
    assert engines["head"] == engines["other"]
    assert len(set(engines.values())) == 4


async def test_a_bad_observation_hurts_its_session_only(process: Process) -> None:
    drafter = process.drafters["head"]
    for session_id in ("good", "bad"):
        await drafter.open(make_spec(random_ids(5), session_id))
    token = Observation(0, np.array([1], np.int32), np.ones(1, np.float32))
    gap = Observation(7, np.array([1], np.int32), np.ones(1, np.float32))
    outside = Observation(0, np.array([96], np.int32), np.ones(1, np.float32))
    results = await asyncio.gather(
        drafter.observe("bad", 0, gap),
        drafter.observe("bad", 0, outside),
        drafter.observe("good", 0, token),
        drafter.observe("unknown", 0, token),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [InvalidObservation, InvalidObservation, Scores, UnknownSession]
    assert (await drafter.draft(DraftRequest("good", 1, 3))).num_nodes == 3
    for session_id in ("good", "bad"):
        await drafter.close(session_id)


async def test_a_draft_that_was_given_up_leaves_the_drafter_usable(process: Process) -> None:
    """The router's deadline cancels the await; the session goes on with the next round."""
    drafter, spec = process.drafters["head"], make_spec(random_ids(9), "c")
    await drafter.open(spec)
    waiting = asyncio.ensure_future(drafter.draft(DraftRequest("c", 0, 4)))
    await asyncio.sleep(0)
    waiting.cancel()
    observed = asyncio.ensure_future(
        drafter.observe("c", 0, Observation(0, np.array([1, 2], np.int32), np.ones(2, np.float32)))
    )
    await asyncio.sleep(0)
    observed.cancel()
    assert (await drafter.draft(DraftRequest("c", 1, 4))).num_nodes == 4
    again = await drafter.observe("c", 1, Observation(2, np.array([3], np.int32), np.ones(1, np.float32)))
    assert again is not None, "the cancelled observation was applied: there is no gap"
    await drafter.close("c")


async def test_prompt_scores_come_from_every_kind_and_change_no_draft(process: Process) -> None:
    """The target's own twin overlaps completely with a distribution like its own; a session that is not open is refused."""
    prompt = random_ids(24, seed=9)
    spec = make_spec(prompt, "p", max_draft_tokens=DEPTH, num_prompt_scores=3)
    offsets = np.array([0, 96, 192, 288], np.int32)
    ids = np.tile(np.arange(96, dtype=np.int32), 3)
    top = SparseRows(offsets, ids, np.ones(288, np.float32))
    sinks = tuple(d.feature_sink for d in process.drafters.values() if d.feature_sink)
    await asyncio.gather(*(d.open(spec) for d in process.drafters.values()))
    await process.target.open(make_spec(prompt, "p", max_draft_tokens=DEPTH, feature_sinks=sinks))
    before = {
        name: (await d.draft(DraftRequest("p", 0, DEPTH))).token_ids.tolist() for name, d in process.drafters.items()
    }
    for name, drafter in process.drafters.items():
        overlap = await drafter.score_prompt("p", top)
        assert overlap.shape == (3,)
        if name != "ngram":
            np.testing.assert_allclose(overlap, 1.0, atol=1e-4)
        assert (await drafter.draft(DraftRequest("p", 0, DEPTH))).token_ids.tolist() == before[name]
        with pytest.raises(UnknownSession):
            await drafter.score_prompt("unknown", top)
    await asyncio.gather(process.target.close("p"), *(d.close("p") for d in process.drafters.values()))


async def test_features_go_to_registered_sinks_only(process: Process) -> None:
    assert process.drafters["head"].feature_sink == "local:head"
    assert process.drafters["ngram"].feature_sink == ""
    with pytest.raises(UnknownDrafter, match="local:unknown"):
        await process.target.open(make_spec(random_ids(3), "x", feature_sinks=("local:unknown",)))
    assert process.target.usage() == Usage()


async def test_every_drafters_digest_names_its_weights(process: Process, folders: dict[str, Path]) -> None:
    digests = {drafter_id: d.digest for drafter_id, d in process.drafters.items()}
    assert digests["twin"] == weights_digest(folders["target"])
    assert len(set(digests.values())) == 5


def test_a_small_lm_with_another_vocabulary_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    odd = make_llama(tmp_path, vocab_size=95)
    config = DrafterConfig(id="odd", kind="causal_lm", model=str(odd))
    with pytest.raises(ModelFolderError, match="drafter odd incompatible: vocab 95 ≠ 96"):
        build_drafters([config], TargetConfig(model=str(folders["target"])))


@pytest.mark.parametrize("drafter_id", ALL)
async def test_tokens_sent_with_the_request_for_a_draft_are_observed_before_it(
    process: Process, drafter_id: str
) -> None:
    """Every draft is the one that an observation of its own would have led to; a gap fails the draft that brings it."""
    drafter = process.drafters[drafter_id]
    sinks = (drafter.feature_sink,) if drafter.feature_sink else ()
    prompt, drafts = random_ids(16, seed=6), []
    for is_sent_along in (False, True):
        spec = make_spec(prompt, "s", GREEDY, max_draft_tokens=DEPTH, score_depth="exact")
        await drafter.open(spec)
        await process.target.open(make_spec(prompt, "s", GREEDY, max_draft_tokens=DEPTH, feature_sinks=sinks))
        trees, sent_along, num_emitted = [], None, 0
        for round_index in range(4):
            tree = await drafter.draft(DraftRequest("s", round_index, DEPTH, observation=sent_along))
            verdict = await process.target.verify("s", round_index, tree)
            quiet = observation_of(verdict, num_emitted, False)
            num_emitted += len(verdict.token_ids)
            sent_along = quiet if is_sent_along else None
            if not is_sent_along:
                assert await drafter.observe("s", round_index, quiet) is None
            trees.append(tree.token_ids.tolist())
        drafts.append(trees)
        gap = observation_of(verdict, num_emitted + 1, False)
        with pytest.raises(InvalidObservation):
            await drafter.draft(DraftRequest("s", 4, DEPTH, observation=gap))
        await asyncio.gather(process.target.close("s"), drafter.close("s"))
    assert drafts[0] == drafts[1]
