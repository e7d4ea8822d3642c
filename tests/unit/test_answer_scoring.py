"""Scores of one answer are asked for on a schedule, not from sleepers, and from the prompt before the first round."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from hedgespec.config import AppArgs, LearnerConfig
from hedgespec.errors import ReplicaLost
from hedgespec.learning.answer_learner import AnswerLearner
from hedgespec.learning.build import score_depth
from hedgespec.types import SparseRows
from tests.scripted_answer import EXPECTED, Run, fleet_of
from tests.scripted_models import ScriptedDrafter, ScriptedTarget

PROMPT_TOP = SparseRows(np.arange(4, dtype=np.int32), np.array([1, 2, 3], np.int32), np.ones(3, np.float32))


def learner_of(run: Run) -> AnswerLearner:
    assert isinstance(run.learner, AnswerLearner)
    return run.learner


def updates_of(run: Run) -> list[np.ndarray]:
    """Return the loss vectors that the learner is given, filled while the answer runs."""
    learner, seen = learner_of(run)._learner, []
    update = learner.update

    def spy(state: object, losses: np.ndarray, awake: np.ndarray) -> object:
        seen.append(losses)
        return update(state, losses, awake)

    learner.update = spy  # type: ignore[method-assign]
    return seen


@pytest.mark.parametrize(
    ("objective", "form", "configured", "asked"),
    [
        ("rounds", "chain", "exact", "own_rounds"),
        ("rounds", "chain", "depth1", "depth1"),
        ("rounds", "tree", "exact", "exact"),
        ("length", "chain", "exact", "exact"),
        ("time", "chain", "exact", "own_rounds"),
        ("time", "tree", "exact", "exact"),
        ("acceptance", "chain", "exact", "exact"),
    ],
)
def test_only_passes_of_chains_are_content_with_own_rounds(
    objective: str, form: str, configured: str, asked: str
) -> None:
    """Other objectives and forms read starts that a drafter's own rounds skip, where `own_rounds` may leave zeros."""
    speculation = {"draft_form": form, "score_depth": configured, "branching": 2 if form == "tree" else 1}
    drafters = [{"id": "ngram", "kind": "ngram"}]
    settings = {"drafters": drafters, "learner": {"objective": objective}, "speculation": speculation}
    assert score_depth(AppArgs.model_validate(settings)) == asked


@pytest.mark.parametrize(
    ("lengths", "asked"), [((), "own_rounds"), ((5,), "own_rounds"), ((2,), "exact"), ((2, 5), "exact")]
)
def test_time_reads_every_start_only_where_shorter_drafts_are_offered(lengths: tuple[int, ...], asked: str) -> None:
    """Rounds of two tokens start elsewhere than those of five."""
    settings = {"drafters": [{"id": "ngram", "kind": "ngram"}], "speculation": {"draft_lengths": lengths}}
    assert score_depth(AppArgs.model_validate(settings)) == asked


@pytest.mark.parametrize(("dense", "every"), [(0, 1), (8, 1), (3, 4), (0, 7), (2, 64)])
async def test_no_position_is_lost_by_the_schedule(dense: int, every: int) -> None:
    """Every drafter scores every position once, chosen or not, and the sums are those of dense scoring."""
    drafters = ScriptedDrafter("good", 5), ScriptedDrafter("bad", 0)
    schedule = {"score_dense_rounds": dense, "score_every": every, "wake_every_rounds": 0}
    run = Run(fleet_of(*drafters), ["good", "bad"], **schedule)
    assert await run.finish() == EXPECTED
    for drafter in drafters:
        assert drafter.scored == list(range(40))
    assert learner_of(run).expected_passes() == pytest.approx({0: 7, 1: 40})


async def test_drafters_are_asked_in_turn_and_sent_nothing_in_between() -> None:
    """Two rounds are dense, then sweeps of 1, 2, 2, 3, 3 and 4 rounds begin in rounds 2, 3, 5, 7, 10, 13 and 17."""
    first, second = ScriptedDrafter("d", 1), ScriptedDrafter("e", 1)
    schedule = {"score_dense_rounds": 2, "score_every": 4, "wake_every_rounds": 0, "draft_deadline_s": 60.0}
    run = Run(fleet_of(first, second), ["d", "e"], **schedule)
    await run.finish()
    rounds = [0, 1, 2, 3, 5, 7, 10, 13, 17], [0, 1, 2, 4, 6, 8, 11, 15, 19]
    for drafter, own in zip((first, second), rounds, strict=True):
        asked = [observation for observation in drafter.observed if observation.wants_scores]
        ends = [observation.start + len(observation.token_ids) for observation in asked]
        assert ends == [2 * (r + 1) for r in own] + ([40] if own[-1] < 19 else [])
        sent_unasked = [observation for observation in drafter.observed if not observation.wants_scores]
        drafted = {r.round_index for r in run.reports if r.drafter_id == drafter.drafter_id}
        assert len(sent_unasked) <= len(drafted), "only when a draft could not start without"


async def test_drafters_that_are_sent_the_same_get_one_object() -> None:
    """One message serves a whole group (`rpc.frames`) this way: all drafters but the one that has drafted were sent the
    same tokens."""
    drafters = [ScriptedDrafter(name, 1) for name in "def"]
    run = Run(fleet_of(*drafters), ["d", "e", "f"], score_dense_rounds=100, wake_every_rounds=0)
    await run.finish()
    asked = zip(*([o for o in drafter.observed if o.wants_scores] for drafter in drafters), strict=True)
    num_messages = [len({id(observation) for observation in row}) for row in asked]
    assert num_messages[:4] == [1] * 4, "asked at once in the warm rounds"
    assert set(num_messages[4:]) <= {1, 2}


async def test_what_is_scheduled_later_does_not_time_out() -> None:
    """Every drafter is still scored throughout with a timeout of three rounds and an occasion every tenth."""
    drafters = [ScriptedDrafter("a", 1), ScriptedDrafter("b", 2)]
    run = Run(
        fleet_of(*drafters), ["a", "b"], score_dense_rounds=0, score_every=10, score_timeout_rounds=3, warm_rounds=0
    )
    await run.finish()
    assert set(learner_of(run).expected_passes()) == {0, 1}


async def test_an_answer_that_is_cut_short_still_scores_its_backlog() -> None:
    """A stop string ends the answer outside of the loop: what the schedule had put off is asked for without a round."""
    drafters = [ScriptedDrafter("a", 1), ScriptedDrafter("b", 0)]
    run = Run(fleet_of(*drafters), ["a", "b"], score_dense_rounds=2, score_every=20)
    reports = run.loop.rounds()
    for _ in range(9):
        run.reports.append(await anext(reports))
    await reports.aclose()
    tokens = await run.settle()
    for drafter in drafters:
        assert drafter.scored == list(range(len(tokens)))
    assert set(learner_of(run).expected_passes()) == {0, 1}


async def test_late_scores_of_a_backlog_are_used_late() -> None:
    slow = ScriptedDrafter("slow", 5)
    slow.scoring.clear()
    run = Run(fleet_of(slow, ScriptedDrafter("quick", 0)), ["slow", "quick"], score_every=4, score_timeout_rounds=1000)
    async for report in run.loop.rounds():
        run.reports.append(report)
    slow.scoring.set()
    await run.settle()
    assert learner_of(run).expected_passes() == pytest.approx({0: 7, 1: 40})


async def test_a_hopeless_drafter_falls_asleep_and_is_neither_asked_nor_drawn() -> None:
    good, bad = ScriptedDrafter("good", 2), ScriptedDrafter("bad", 0)
    schedule = {"score_dense_rounds": 2, "wake_every_rounds": 1000, "draft_deadline_s": 60.0}
    run = Run(fleet_of(good, bad), ["good", "bad"], num_tokens=150, **schedule)
    assert await run.finish() == list(range(4, 154))
    assert good.scored == list(range(150))
    assert bad.scored == list(range(len(bad.scored)))
    assert len(bad.scored) < 60
    emitted = np.cumsum([len(r.token_ids) for r in run.reports])
    after = [r for r, end in zip(run.reports, emitted, strict=True) if end > len(bad.scored)]
    assert {r.drafter_id for r in after if r.num_drafted} == {"good"}
    observed = [token for observation in bad.observed for token in observation.token_ids.tolist()]
    assert len(observed) > len(bad.scored) + 30, "it observes all verified tokens, if late"
    assert observed == list(range(4, 4 + len(observed)))
    assert len(bad.observed) < len(good.observed)
    assert set(learner_of(run).expected_passes()) == {0}, "only a drafter that was scored throughout counts"


async def test_sleepers_are_asked_again_on_schedule() -> None:
    good, bad = ScriptedDrafter("good", 2), ScriptedDrafter("bad", 0)
    schedule = {"score_dense_rounds": 2, "score_every": 1, "wake_every_rounds": 10, "draft_deadline_s": 60.0}
    run = Run(fleet_of(good, bad), ["good", "bad"], num_tokens=400, **schedule)
    await run.finish()
    emitted = np.cumsum([len(r.token_ids) for r in run.reports])
    rounds = np.unique(np.searchsorted(emitted, bad.scored, side="right"))  # whose tokens it has scored
    naps = np.diff(rounds) - 1
    assert naps[naps > 0].tolist() == [10, 20, 40, 40], "twice as long each time, up to four times"


async def test_sleepers_wake_when_the_text_changes_and_the_leader_gets_worse() -> None:
    """The former loser takes over after the change, far from any scheduled waking."""
    first = ScriptedDrafter("first", right_at=lambda index: 5 if index < 200 else 0)
    second = ScriptedDrafter("second", right_at=lambda index: 0 if index < 200 else 5)
    schedule = {"score_dense_rounds": 2, "wake_every_rounds": 10_000, "draft_deadline_s": 60.0}
    run = Run(fleet_of(first, second), ["first", "second"], num_tokens=1500, **schedule)
    await run.finish()
    assert 200 not in second.scored, "asleep when it happens"
    woken_at = next(index for index in second.scored if index > 200)
    assert woken_at < 240
    assert run.reports[-2].drafter_id == "second"
    assert learner_of(run).weights[1] > 0.5


async def test_the_learner_is_given_the_sleepers_and_a_waking_drafter_starts_a_round_afresh() -> None:
    """`mid` drafts one right token, so alone it would start a round at every other position. Whatever the length of a nap,
    the loss after the first position that it scores again is 0: a round began there."""
    good, mid = ScriptedDrafter("good", 5), ScriptedDrafter("mid", 1)
    run = Run(fleet_of(good, mid), ["good", "mid"], num_tokens=800, score_dense_rounds=2, wake_every_rounds=7)
    seen: list[tuple[float, bool]] = []
    learner = learner_of(run)
    update = learner._learner.update

    def spy(state: object, losses: np.ndarray, awake: np.ndarray) -> object:
        assert awake[0]
        seen.append((float(losses[1]), bool(awake[1])))
        return update(state, losses, awake)

    learner._learner.update = spy  # type: ignore[method-assign]
    await run.finish()
    wakings = [i for i in range(1, len(seen)) if seen[i][1] and not seen[i - 1][1]]
    assert len(wakings) >= 2
    for i in wakings:
        assert [loss for loss, _ in seen[i : i + 4]] == [0.0, 1.0, 0.0, 1.0]


async def test_prompt_scores_tilt_the_first_choice_and_never_enter_as_rounds() -> None:
    fine, poor = ScriptedDrafter("fine", 2, prompt_overlap=1.0), ScriptedDrafter("poor", 2, prompt_overlap=0.0)
    target = ScriptedTarget(prompt_top=PROMPT_TOP)
    run = Run(fleet_of(poor, fine, target=target), ["poor", "fine"], prompt_scores=3, warm_wait_fraction=1.0)
    learned = updates_of(run)
    reports = run.loop.rounds()
    await asyncio.sleep(0)
    run.reports.append(await anext(reports))
    prior = learner_of(run).expert_prior
    assert prior[1] > 0.7
    assert target.specs[0].num_prompt_scores == 3
    async for report in reports:
        run.reports.append(report)
    assert await run.settle() == EXPECTED
    assert len(learned) == 40, "one update per verified token and none for the prompt"


async def test_late_prompt_scores_count_as_if_they_had_come_in_time() -> None:
    """Prompt scores that come during round 1 lead to the weights of a learner that had them at the start."""
    weights = []
    for is_late in (False, True):
        drafters = [ScriptedDrafter("a", 1, prompt_overlap=1.0), ScriptedDrafter("b", 2, prompt_overlap=0.0)]
        fleet = fleet_of(*drafters, target=ScriptedTarget(prompt_top=PROMPT_TOP))
        run = Run(fleet, ["a", "b"], prompt_scores=3, warm_wait_fraction=1.0, score_timeout_rounds=1000)
        for drafter in drafters:
            if is_late:
                drafter.scoring.clear()
        async for report in run.loop.rounds():
            run.reports.append(report)
            if report.round_index == 1:
                for drafter in drafters:
                    drafter.scoring.set()
        await run.settle()
        weights.append(learner_of(run).weights)
    assert weights[0] == pytest.approx(weights[1], abs=1e-12)


async def test_prompt_scores_that_come_after_the_first_rounds_are_dropped() -> None:
    drafters = [ScriptedDrafter("a", 1, prompt_overlap=1.0), ScriptedDrafter("b", 1, prompt_overlap=0.0)]
    fleet = fleet_of(*drafters, target=ScriptedTarget(prompt_top=PROMPT_TOP))
    run = Run(fleet, ["a", "b"], prompt_scores=3, warm_rounds=2, score_timeout_rounds=1000)
    for drafter in drafters:
        drafter.scoring.clear()
    async for report in run.loop.rounds():
        run.reports.append(report)
        if report.round_index == 5:
            for drafter in drafters:
                drafter.scoring.set()
    assert await run.settle() == EXPECTED
    np.testing.assert_array_equal(learner_of(run).expert_prior, [0.5, 0.5])


@pytest.mark.parametrize("failure", [ReplicaLost("gone"), ValueError("a defect"), 2.5], ids=["lost", "defect", "lie"])
async def test_a_drafter_that_cannot_score_the_prompt_costs_only_its_evidence(failure: Exception | float) -> None:
    odd = ScriptedDrafter("odd", 5, prompt_overlap=failure)
    fleet = fleet_of(odd, ScriptedDrafter("b", 0), target=ScriptedTarget(prompt_top=PROMPT_TOP))
    run = Run(fleet, ["odd", "b"], prompt_scores=3)
    assert await run.finish() == EXPECTED
    assert run.events.missing["odd"] == 1
    assert not run.events.failures
    assert any(r.drafter_id == "odd" for r in run.reports), "it still drafts"


async def test_a_frozen_drafter_does_not_hold_up_the_first_round_for_the_prompt() -> None:
    """The wait is a share of the prefill, which here takes no time at all."""
    frozen = ScriptedDrafter("frozen", 5)
    frozen.scoring.clear()
    fleet = fleet_of(frozen, target=ScriptedTarget(prompt_top=PROMPT_TOP))
    run = Run(fleet, ["frozen"], prompt_scores=3)
    async with asyncio.timeout(10):
        first = await anext(run.loop.rounds())
    assert first.round_index == 0
    await run.panel.close()


async def test_prompt_scores_are_not_asked_for_again_after_a_fail_over() -> None:
    first, second = ScriptedTarget({2: ReplicaLost("x")}, PROMPT_TOP), ScriptedTarget(prompt_top=PROMPT_TOP)
    fleet = fleet_of(ScriptedDrafter("a", 1), ScriptedDrafter("b", 2))
    fleet.targets[:] = [first, second]
    run = Run(fleet, ["a", "b"], prompt_scores=3)
    assert await run.finish() == EXPECTED
    assert [t.specs[0].num_prompt_scores for t in (first, second)] == [3, 0]


@pytest.mark.parametrize("learner", [True, False], ids=["bandit-free", "pinned"])
async def test_an_answer_without_learning_asks_for_nothing(learner: bool) -> None:
    """A pinned drafter observes every token and is never asked for scores, on the prompt or later."""
    drafter = ScriptedDrafter("a", 3)
    run = Run(fleet_of(drafter, target=ScriptedTarget(prompt_top=PROMPT_TOP)), ["a"], learn=learner, prompt_scores=3)
    assert await run.finish() == EXPECTED
    assert any(o.wants_scores for o in drafter.observed) == learner
    assert drafter.specs[0].num_prompt_scores == (3 if learner else 0)


async def test_leader_follows_the_largest_weight() -> None:
    config = LearnerConfig(follow="leader")
    run = Run(fleet_of(ScriptedDrafter("bad", 0), ScriptedDrafter("good", 5)), ["bad", "good"], learner_config=config)
    assert await run.finish() == EXPECTED
    assert [r.drafter_id for r in run.reports[1:] if r.num_drafted].count("good") >= len(run.reports) - 3
