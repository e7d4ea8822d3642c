"""One suite runs over both a model in this process and the same model behind gRPC; no caller can tell them apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest

from hedgespec.errors import HedgeSpecError, InvalidDraft, InvalidObservation, UnknownSession
from hedgespec.models.tabular import TabularDrafter, TabularModel, TabularTarget
from hedgespec.protocols import Drafter, Target
from hedgespec.rpc.client import RemoteDrafter, RemoteTarget
from hedgespec.rpc.connection import ReplicaConnection
from hedgespec.rpc.server import ReplicaServicer, start_server
from hedgespec.types import (
    EMPTY_DRAFT,
    DraftForm,
    DraftRequest,
    DraftTree,
    Observation,
    SamplingParams,
    SessionSpec,
    SparseRows,
    Verdict,
)

MODEL = TabularModel(vocab_size=12, seed=3)
SAMPLINGS = {
    "greedy": SamplingParams(temperature=0.0),
    "rejection": SamplingParams(temperature=1.0),
    "coupled": SamplingParams(temperature=1.0, seed=11),
    "shaped": SamplingParams(temperature=0.8, top_p=0.9, top_k=6, frequency_penalty=0.3, logit_bias=((2, 1.0),)),
}


def local_models() -> tuple[TabularTarget, TabularDrafter]:
    return TabularTarget(MODEL), TabularDrafter("code", MODEL.related(0.6, seed=1), depth_decay=0.9)


@pytest.fixture(params=["local", "remote"])
async def models(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Target, Drafter]]:
    target, drafter = local_models()
    if request.param == "local":
        yield target, drafter
        return
    target_server = await start_server(ReplicaServicer(target))
    drafter_server = await start_server(ReplicaServicer(None, {"code": drafter}))
    async with (
        ReplicaConnection(target_server.address) as to_target,
        ReplicaConnection(drafter_server.address) as to_drafter,
    ):
        yield RemoteTarget(to_target), RemoteDrafter(to_drafter, "code")
    await target_server.stop()
    await drafter_server.stop()


def make_spec(sampling: SamplingParams, **changes: object) -> SessionSpec:
    spec = SessionSpec(
        session_id="answer-1",
        prompt_ids=np.array([1, 2, 3], np.int32),
        emitted_ids=np.zeros(0, np.int32),
        sampling=sampling,
        noise_seed=2**63 + 5,
        max_draft_tokens=4,
        num_target_top=8,
        score_depth="exact",
    )
    return replace(spec, **changes)  # type: ignore[arg-type]


async def decode(target: Target, drafter: Drafter, spec: SessionSpec, num_rounds: int) -> list[tuple[object, ...]]:
    """Run rounds and note down everything that came back."""
    await target.open(spec)
    await drafter.open(spec)
    log: list[tuple[object, ...]] = []
    start = len(spec.emitted_ids)
    for round_index in range(num_rounds):
        tree = await drafter.draft(DraftRequest(spec.session_id, round_index, 4))
        verdict = await target.verify(spec.session_id, round_index, tree)
        scores = await drafter.observe(spec.session_id, round_index, observation(start, verdict))
        start += len(verdict.token_ids)
        assert scores is not None
        assert scores.acceptance_prob is not None
        draft_probs = tree.draft_probs.probs.tobytes() if tree.draft_probs else b""
        log.append(
            (
                tree.token_ids.tolist(),
                draft_probs,
                tree.drafter_id,
                verdict.token_ids.tolist(),
                verdict.target_probs.tobytes(),
                scores.start,
                scores.acceptance.tobytes(),
                scores.acceptance_prob.tobytes(),
            )
        )
    await target.close(spec.session_id)
    await drafter.close(spec.session_id)
    return log


def observation(start: int, verdict: Verdict) -> Observation:
    return Observation(start, verdict.token_ids, verdict.target_probs, verdict.target_top)


@pytest.mark.parametrize("name", SAMPLINGS)
async def test_every_number_of_a_decode_is_the_same_on_both_sides_of_the_wire(
    models: tuple[Target, Drafter], name: str
) -> None:
    """Drafts, distributions, verdicts and scores equal those of untouched local models bit by bit."""
    spec = make_spec(SAMPLINGS[name])
    expected = await decode(*local_models(), spec, num_rounds=6)
    assert await decode(*models, spec, num_rounds=6) == expected


async def test_a_session_can_start_behind_emitted_tokens(models: tuple[Target, Drafter]) -> None:
    """Fail-over: opening with prompt + emitted ids continues where the first session stood."""
    spec = make_spec(SAMPLINGS["coupled"])
    whole = await decode(*models, spec, num_rounds=4)
    emitted = [token for entry in whole[:2] for token in entry[3]]  # type: ignore[attr-defined]
    again = await decode(*models, replace(spec, emitted_ids=np.array(emitted, np.int32)), num_rounds=2)
    rest = [token for entry in whole[2:] for token in entry[3]]  # type: ignore[attr-defined]
    tokens = [token for entry in again for token in entry[3]]  # type: ignore[attr-defined]
    assert tokens[: len(rest)] == rest[: len(tokens)]


async def test_unwanted_scores_are_none(models: tuple[Target, Drafter]) -> None:
    target, drafter = models
    spec = make_spec(SAMPLINGS["greedy"])
    await target.open(spec)
    await drafter.open(spec)
    verdict = await target.verify("answer-1", 0, EMPTY_DRAFT)
    assert await drafter.observe("answer-1", 0, replace(observation(0, verdict), wants_scores=False)) is None


async def backlog_scores(target: Target, drafter: Drafter, spec: SessionSpec) -> tuple[int, bytes, bytes]:
    """Three rounds of plain decoding without scores, a fourth with scores for all of them."""
    await target.open(spec)
    await drafter.open(spec)
    for round_index in range(4):
        verdict = await target.verify(spec.session_id, round_index, EMPTY_DRAFT)
        seen = observation(round_index, verdict)
        if round_index < 3:
            assert await drafter.observe(spec.session_id, round_index, replace(seen, wants_scores=False)) is None
    scores = await drafter.observe(spec.session_id, 3, replace(seen, score_from=0))
    assert scores is not None
    assert scores.acceptance_prob is not None
    return scores.start, scores.acceptance.tobytes(), scores.acceptance_prob.tobytes()


@pytest.mark.parametrize("name", SAMPLINGS)
async def test_a_backlog_of_scores_is_the_same_on_both_sides_of_the_wire(
    models: tuple[Target, Drafter], name: str
) -> None:
    spec = make_spec(SAMPLINGS[name], score_depth="depth1")
    expected = await backlog_scores(*local_models(), spec)
    assert expected[0] == 0
    assert await backlog_scores(*models, spec) == expected


async def test_what_is_left_at_the_end_is_scored_by_an_observation_without_tokens(
    models: tuple[Target, Drafter],
) -> None:
    target, drafter = models
    spec = make_spec(SAMPLINGS["rejection"])
    await target.open(spec)
    await drafter.open(spec)
    for round_index in range(3):
        verdict = await target.verify("answer-1", round_index, EMPTY_DRAFT)
        unscored = replace(observation(round_index, verdict), wants_scores=False)
        await drafter.observe("answer-1", round_index, unscored)
    no_rows = SparseRows(np.zeros(1, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))
    rest = Observation(3, np.zeros(0, np.int32), np.zeros(0, np.float32), no_rows, score_from=1)
    scores = await drafter.observe("answer-1", 3, rest)
    assert scores is not None
    assert scores.acceptance_prob is not None
    assert (scores.start, len(scores.acceptance), len(scores.acceptance_prob)) == (1, 2, 2)


@pytest.mark.parametrize("kind", ["tree", "iid", "distinct"])
async def test_drafts_of_every_form_are_the_same_on_both_sides_of_the_wire(
    models: tuple[Target, Drafter], kind: str
) -> None:
    """Form, draft length and node budget all arrive: the tree equals the local model's, node by node."""
    spec = make_spec(SAMPLINGS["rejection"], draft_form=DraftForm(kind, 3))  # type: ignore[arg-type]
    _, local = local_models()
    _, drafter = models
    for model in (local, drafter):
        await model.open(spec)
    for num_draft_tokens, num_nodes in ((4, 0), (3, 7)):
        expected = await local.draft(DraftRequest("answer-1", num_nodes, num_draft_tokens, num_nodes))
        tree = await drafter.draft(DraftRequest("answer-1", num_nodes, num_draft_tokens, num_nodes))
        assert tree.token_ids.tolist() == expected.token_ids.tolist()
        assert tree.parent.tolist() == expected.parent.tolist()
        assert (tree.draft_probs is None) == (expected.draft_probs is None)
        assert not tree.is_chain
        assert tree.num_nodes <= (num_nodes or num_draft_tokens * 3)


async def test_prompt_scores_are_the_same_on_both_sides_of_the_wire(models: tuple[Target, Drafter]) -> None:
    spec = make_spec(SAMPLINGS["rejection"], num_prompt_scores=2)
    distributions = [MODEL.probs([1]), MODEL.probs([1, 2])]
    ids = np.tile(np.arange(MODEL.vocab_size, dtype=np.int32), 2)
    offsets = np.arange(3, dtype=np.int32) * MODEL.vocab_size
    prompt_top = SparseRows(offsets, ids, np.concatenate(distributions).astype(np.float32))
    _, local = local_models()
    _, drafter = models
    for model in (local, drafter):
        await model.open(spec)
    expected = await local.score_prompt("answer-1", prompt_top)
    overlap = await drafter.score_prompt("answer-1", prompt_top)
    assert overlap.shape == (2,)
    assert 0.0 < overlap.min() < overlap.max() <= 1.0
    assert overlap.tobytes() == expected.tobytes()
    with pytest.raises(UnknownSession):
        await drafter.score_prompt("unknown", prompt_top)


async def test_observing_twice_changes_nothing(models: tuple[Target, Drafter]) -> None:
    target, drafter = models
    spec = make_spec(SAMPLINGS["greedy"])
    await target.open(spec)
    await drafter.open(spec)
    verdict = await target.verify("answer-1", 0, EMPTY_DRAFT)
    for _ in range(2):
        await drafter.observe("answer-1", 0, observation(0, verdict))
    first = await drafter.draft(DraftRequest("answer-1", 1, 4))
    assert first.num_nodes == 4
    assert (await drafter.draft(DraftRequest("answer-1", 1, 4))).token_ids.tolist() == first.token_ids.tolist()


async def test_observe_reaches_the_model_before_a_draft_that_is_called_after_it(models: tuple[Target, Drafter]) -> None:
    """The caller does not wait for scores: a draft behind an unawaited observe sees its tokens."""
    target, drafter = models
    spec = make_spec(SAMPLINGS["greedy"])
    await target.open(spec)
    await drafter.open(spec)
    drafted = await drafter.draft(DraftRequest("answer-1", 0, 4))
    verdict = await target.verify("answer-1", 0, drafted)
    scoring = asyncio.ensure_future(drafter.observe("answer-1", 0, observation(0, verdict)))
    await asyncio.sleep(0)
    tree = await drafter.draft(DraftRequest("answer-1", 1, 4))
    context = [1, 2, 3, *verdict.token_ids.tolist()]
    distribution = MODEL.related(0.6, seed=1).probs(context)
    assert tree.token_ids[0] == int(np.argmax(distribution))
    await scoring


async def raised_by(awaitable: object) -> type[BaseException] | None:
    try:
        await awaitable  # type: ignore[misc]
    except HedgeSpecError as error:
        return type(error)
    return None


async def test_failures_are_the_same_exceptions(models: tuple[Target, Drafter]) -> None:
    """Unknown sessions, unverifiable drafts and gaps raise the same exceptions; closing twice is fine."""
    target, drafter = models
    spec = make_spec(SAMPLINGS["rejection"])
    assert await raised_by(target.verify("unknown", 0, EMPTY_DRAFT)) is UnknownSession
    assert await raised_by(drafter.draft(DraftRequest("unknown", 0, 4))) is UnknownSession
    await target.open(spec)
    await drafter.open(spec)
    out_of_range = DraftTree.chain(np.array([999], np.int32))
    assert await raised_by(target.verify("answer-1", 0, out_of_range)) is InvalidDraft
    verdict = await target.verify("answer-1", 0, EMPTY_DRAFT)
    assert len(verdict.token_ids) == 1
    assert await raised_by(drafter.observe("answer-1", 0, observation(5, verdict))) is InvalidObservation
    for _ in range(2):
        await target.close("answer-1")
        await drafter.close("answer-1")
    assert await raised_by(target.verify("answer-1", 1, EMPTY_DRAFT)) is UnknownSession


async def test_an_observation_and_a_request_for_scores_overlap_and_both_are_answered(
    models: tuple[Target, Drafter],
) -> None:
    """Observations overlap: one that wants no scores, and right behind it one that asks for all of them."""
    target, drafter = models
    spec = make_spec(SAMPLINGS["rejection"])
    await target.open(spec)
    await drafter.open(spec)
    seen = [observation(i, await target.verify("answer-1", i, EMPTY_DRAFT)) for i in range(2)]
    observed = asyncio.ensure_future(drafter.observe("answer-1", 0, replace(seen[0], wants_scores=False)))
    asked = asyncio.ensure_future(drafter.observe("answer-1", 1, replace(seen[1], score_from=0)))
    assert await asyncio.wait_for(observed, 5.0) is None
    scores = await asyncio.wait_for(asked, 5.0)
    assert scores is not None
    assert (scores.start, len(scores.acceptance)) == (0, 2)


async def test_tokens_sent_with_the_request_for_a_draft_are_observed_before_it(models: tuple[Target, Drafter]) -> None:
    """The draft is the same as after a separate observation; observed tokens may be sent again, a gap is refused."""
    target, drafter = models
    specs = [make_spec(SAMPLINGS["rejection"], session_id=name) for name in ("sent along", "observed")]
    for spec in specs:
        await drafter.open(spec)
    await target.open(specs[0])
    seen = [observation(i, await target.verify("sent along", i, EMPTY_DRAFT)) for i in range(3)]
    quiet = [replace(each, wants_scores=False) for each in seen]
    assert await drafter.observe("observed", 0, quiet[0]) is None
    sent_along, alone = (
        await drafter.draft(DraftRequest("sent along", 1, 4, observation=quiet[0])),
        await drafter.draft(DraftRequest("observed", 1, 4)),
    )
    assert sent_along.token_ids.tolist() == alone.token_ids.tolist()
    assert await raised_by(drafter.draft(DraftRequest("sent along", 2, 4, observation=quiet[2]))) is InvalidObservation
    again = Observation(
        0, *(np.concatenate([getattr(e, part) for e in quiet]) for part in ("token_ids", "target_probs"))
    )
    assert (
        await drafter.draft(DraftRequest("sent along", 3, 4, observation=replace(again, wants_scores=False)))
    ).num_nodes == 4
    scores = await drafter.observe(
        "sent along", 9, Observation(3, *(np.zeros(0, t) for t in (np.int32, np.float32)), score_from=0)
    )
    assert scores is not None
    assert (scores.start, len(scores.acceptance)) == (0, 3), "what was sent along can be scored later"


async def test_a_number_that_is_still_unanswered_is_refused() -> None:
    """Two requests with one number would have answers that cannot be told apart, so the second one never leaves."""
    server = await start_server(ReplicaServicer(None, {"code": local_models()[1]}))
    async with ReplicaConnection(server.address) as connection:
        drafter = RemoteDrafter(connection, "code")
        await drafter.open(make_spec(SAMPLINGS["greedy"]))
        nothing = Observation(0, np.zeros(0, np.int32), np.zeros(0, np.float32), wants_scores=False)
        first, second = (drafter.observe("answer-1", 7, nothing) for _ in range(2))
        with pytest.raises(RuntimeError, match="still unanswered"):
            await second
        assert await first is None
    await server.stop()
