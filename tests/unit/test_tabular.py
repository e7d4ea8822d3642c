"""The exact models keep the same session rules as the real ones."""

from dataclasses import replace

import numpy as np
import pytest

from hedgespec.errors import InvalidDraft, InvalidObservation, UnknownSession
from hedgespec.models.tabular import TabularDrafter, TabularModel, TabularTarget
from hedgespec.protocols import Drafter, Target
from hedgespec.types import EMPTY_DRAFT, DraftRequest, DraftTree, Observation, SamplingParams, SessionSpec, Verdict

MODEL = TabularModel(vocab_size=6, order=2, seed=1)
NOTHING = np.zeros(0, np.int32)
SPEC = SessionSpec("s", np.array([1, 2], np.int32), NOTHING, SamplingParams(), noise_seed=3, max_draft_tokens=4)


def observation(verdict: Verdict, start: int) -> Observation:
    return Observation(start, verdict.token_ids, verdict.target_probs, verdict.target_top)


async def opened(*models: TabularTarget | TabularDrafter, spec: SessionSpec = SPEC) -> None:
    for model in models:
        await model.open(spec)


def test_models_are_the_protocols():
    assert isinstance(TabularTarget(MODEL), Target)
    assert isinstance(TabularDrafter("a", MODEL), Drafter)


def test_a_table_is_the_same_for_the_same_fields_and_depends_on_the_last_ids_only():
    again = TabularModel(vocab_size=6, order=2, seed=1)
    assert again == MODEL
    assert MODEL.digest == again.digest != MODEL.related(0.5, 2).digest
    assert np.array_equal(MODEL.probs([5, 1, 2]), again.probs([0, 1, 2]))
    assert not np.array_equal(MODEL.probs([1, 2]), MODEL.probs([2, 1]))
    assert MODEL.probs([1]).sum() == pytest.approx(1)


def test_related_models_come_closer_with_closeness():
    distances = [
        np.mean(
            [np.abs(MODEL.probs([i, j]) - MODEL.related(c, 9).probs([i, j])).sum() for i in range(6) for j in range(6)]
        )
        for c in (0.0, 0.5, 0.9, 1.0)
    ]
    assert distances[0] > distances[1] > distances[2] > distances[3] == 0


@pytest.mark.parametrize("seed", [None, 5])
async def test_a_session_opened_after_a_failure_continues_like_the_first_one(seed):
    """Target and drafter with emitted_ids are in the state of those that lived through the rounds."""
    spec = replace(SPEC, sampling=SamplingParams(seed=seed, presence_penalty=0.5))
    target, drafter = TabularTarget(MODEL), TabularDrafter("a", MODEL.related(0.5, 2))
    await opened(target, drafter, spec=spec)
    emitted: list[int] = []
    for round_index in range(4):
        verdict = await target.verify("s", round_index, await drafter.draft(DraftRequest("s", round_index, 3)))
        await drafter.observe("s", round_index, observation(verdict, len(emitted)))
        emitted += verdict.token_ids.tolist()
    fresh_target, fresh_drafter = TabularTarget(MODEL), TabularDrafter("a", MODEL.related(0.5, 2))
    await opened(fresh_target, fresh_drafter, spec=replace(spec, emitted_ids=np.array(emitted, np.int32)))
    tree, fresh_tree = await drafter.draft(DraftRequest("s", 4, 3)), await fresh_drafter.draft(DraftRequest("s", 4, 3))
    assert tree.token_ids.tolist() == fresh_tree.token_ids.tolist()
    verdict, fresh = await target.verify("s", 4, tree), await fresh_target.verify("s", 4, fresh_tree)
    assert verdict.token_ids.tolist() == fresh.token_ids.tolist()


async def test_observing_again_changes_nothing_and_repeats_the_scores():
    """Idempotent by output index, also when an observation overlaps the end of what is known."""
    target, once, twice = TabularTarget(MODEL), TabularDrafter("a", MODEL), TabularDrafter("a", MODEL)
    await opened(target, once, twice)
    verdicts = [await target.verify("s", r, EMPTY_DRAFT) for r in range(3)]
    for index, verdict in enumerate(verdicts):
        first = await once.observe("s", index, observation(verdict, index))
        again = [await twice.observe("s", index, observation(verdict, index)) for _ in range(2)]
        assert [scores.acceptance.tolist() for scores in again] == [first.acceptance.tolist()] * 2
    tokens = np.concatenate([verdict.token_ids for verdict in verdicts])
    probs = np.concatenate([verdict.target_probs for verdict in verdicts])
    late = TabularDrafter("a", MODEL)
    await late.open(SPEC)
    await late.observe("s", 0, observation(verdicts[0], 0))
    await late.observe("s", 2, Observation(0, tokens, probs))
    drafts = [await drafter.draft(DraftRequest("s", 3, 4)) for drafter in (once, twice, late)]
    assert len({tuple(tree.token_ids.tolist()) for tree in drafts}) == 1


async def test_a_gap_or_a_contradiction_in_the_observed_tokens_is_refused():
    drafter = TabularDrafter("a", MODEL)
    await drafter.open(SPEC)
    one = np.ones(1, np.float32)
    with pytest.raises(InvalidObservation, match="0 were observed; resend the gap"):
        await drafter.observe("s", 0, Observation(1, np.array([3], np.int32), one))
    await drafter.observe("s", 0, Observation(0, np.array([3], np.int32), one))
    with pytest.raises(InvalidObservation, match="other tokens"):
        await drafter.observe("s", 0, Observation(0, np.array([4], np.int32), one))


async def test_unknown_and_closed_sessions_are_reported_and_closing_twice_is_fine():
    target, drafter = TabularTarget(MODEL), TabularDrafter("a", MODEL)
    await opened(target, drafter)
    for model in (target, drafter):
        await model.close("s")
        await model.close("s")
    with pytest.raises(UnknownSession, match="open it first"):
        await target.verify("s", 0, EMPTY_DRAFT)
    with pytest.raises(UnknownSession):
        await drafter.draft(DraftRequest("s", 0, 2))
    with pytest.raises(UnknownSession):
        await drafter.observe("s", 0, Observation(0, NOTHING, np.zeros(0, np.float32)))


async def test_an_invalid_draft_changes_nothing():
    """The caller may verify the empty draft afterwards and gets what it would have got at once."""
    target, untouched = TabularTarget(MODEL), TabularTarget(MODEL)
    await opened(target, untouched)
    with pytest.raises(InvalidDraft):
        await target.verify("s", 0, DraftTree.chain(np.array([99])))
    verdict, expected = await target.verify("s", 0, EMPTY_DRAFT), await untouched.verify("s", 0, EMPTY_DRAFT)
    assert verdict.token_ids.tolist() == expected.token_ids.tolist()


async def test_a_draft_is_never_longer_than_asked_or_allowed():
    drafter = TabularDrafter("a", MODEL)
    await drafter.open(SPEC)
    assert [(await drafter.draft(DraftRequest("s", 0, n))).num_nodes for n in (0, 1, 4, 9)] == [0, 1, 4, 4]


@pytest.mark.parametrize("depth_decay", [1.0, 0.5])
@pytest.mark.parametrize(
    "sampling", [SamplingParams(seed=1), SamplingParams(temperature=0.0)], ids=["coupled", "greedy"]
)
async def test_exact_scores_along_a_round_are_the_fate_of_its_draft(sampling, depth_decay):
    """The run of hits on the diagonal (start + j - 1, depth j) is the number of accepted tokens, for any start."""
    num_accepted = []
    for noise_seed in range(25):
        spec = replace(SPEC, sampling=sampling, noise_seed=noise_seed, score_depth="exact")
        target = TabularTarget(MODEL)
        drafter = TabularDrafter("a", MODEL.related(0.6, noise_seed), depth_decay=depth_decay)
        await opened(target, drafter, spec=spec)
        start = 0
        for round_index in range(4):
            tree = await drafter.draft(DraftRequest("s", round_index, 4))
            verdict = await target.verify("s", round_index, tree)
            scores = await drafter.observe("s", round_index, observation(verdict, start))
            depth = scores.acceptance.shape[1]
            assert depth == (4 if depth_decay < 1 else 1)
            rows = range(min(len(verdict.token_ids), 4))
            hits = [scores.acceptance[row, min(row, depth - 1)] for row in rows]
            assert hits == [1.0] * verdict.num_accepted + [0.0] * (len(hits) - verdict.num_accepted)
            num_accepted.append(verdict.num_accepted)
            start += len(verdict.token_ids)
    assert 0.3 < np.mean(num_accepted) < 3.9


async def test_scores_are_left_out_when_not_wanted_and_acceptance_prob_comes_with_target_top():
    spec = replace(SPEC, num_target_top=3)
    target, drafter = TabularTarget(MODEL), TabularDrafter("a", MODEL)
    await opened(target, drafter, spec=spec)
    verdict = await target.verify("s", 0, EMPTY_DRAFT)
    assert await drafter.observe("s", 0, replace(observation(verdict, 0), wants_scores=False)) is None
    scores = await drafter.observe("s", 0, observation(verdict, 0))
    assert scores.acceptance_prob.shape == scores.acceptance.shape == (1, 1)
    scores = await drafter.observe("s", 0, replace(observation(verdict, 0), target_top=None))
    assert scores.acceptance_prob is None
