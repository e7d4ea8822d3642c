"""The decode loop over scripted models keeps the text whole whatever fails."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from hedgespec.errors import InvalidDraft, ReplicaBusy, ReplicaLost, TargetUnavailable
from tests.scripted_answer import EXPECTED, Run, fleet_of
from tests.scripted_models import ScriptedDrafter, ScriptedFleet, ScriptedTarget


async def test_text_is_the_targets_and_a_perfect_drafter_saves_passes():
    run = Run(fleet_of(ScriptedDrafter("good", 5)), ["good"])
    assert await run.finish() == EXPECTED
    assert len(run.reports) == 7  # 6 tokens a pass
    assert run.reports[-1].finish_reason == "length"


async def test_decoding_without_drafters_takes_one_pass_per_token():
    run = Run(fleet_of(), [])
    assert await run.finish() == EXPECTED
    assert len(run.reports) == 40


async def test_learner_moves_to_the_better_drafter():
    run = Run(fleet_of(ScriptedDrafter("bad", 0), ScriptedDrafter("good", 5)), ["bad", "good"])
    assert await run.finish() == EXPECTED
    assert run.learner is not None
    assert run.learner.weights[1] > 0.9
    passes = run.learner.expected_passes()
    assert passes[0] == pytest.approx(40)
    assert passes[1] == pytest.approx(7)


async def test_frozen_drafter_costs_one_deadline_and_is_used_again_when_it_answers():
    frozen = ScriptedDrafter("frozen", 5)
    run = Run(fleet_of(frozen), ["frozen"], learn=False)
    tokens: list[int] = []
    async for report in run.loop.rounds():
        tokens += report.token_ids.tolist()
        if report.round_index == 0:
            frozen.running.clear()
        if report.round_index == 5:
            frozen.running.set()
            await asyncio.sleep(0.01)
        run.reports.append(report)
    await run.panel.close()
    assert tokens == EXPECTED
    assert run.events.failures == {("frozen", "deadline"): 1}
    assert [r.num_drafted > 0 for r in run.reports[:6]] == [True, False, False, False, False, False]
    assert run.reports[6].num_drafted == 5


async def test_lost_drafter_leaves_the_learner_to_the_others():
    dying = ScriptedDrafter("dying", 5, fail_draft=ReplicaLost("gone"))
    run = Run(fleet_of(dying, ScriptedDrafter("other", 2)), ["dying", "other"])
    assert await run.finish() == EXPECTED
    assert run.events.failures[("dying", "ReplicaLost")] <= 1
    assert run.learner is not None
    assert set(run.learner.expected_passes()) == {1}, "a drafter that died was not scored throughout"


async def test_drafter_that_is_down_or_busy_from_the_start_is_simply_not_used():
    busy = ScriptedDrafter("busy", 5, fail_open=ReplicaBusy("full"))
    run = Run(fleet_of(busy, ScriptedDrafter("up", 1)), ["down", "busy", "up"])
    assert await run.finish() == EXPECTED
    assert {r.drafter_id for r in run.reports} <= {"up", None}


async def test_malformed_draft_is_verified_as_no_draft_and_its_drafter_dropped():
    target = ScriptedTarget(fail={2: InvalidDraft("id out of range")})
    run = Run(fleet_of(ScriptedDrafter("odd", 3), target=target), ["odd"], learn=False)
    assert await run.finish() == EXPECTED
    assert run.events.failures == {("odd", "InvalidDraft"): 1}
    assert all(r.num_drafted == 0 for r in run.reports[2:])


async def test_lost_target_is_replaced_and_the_text_goes_on_where_it_was():
    first, second = ScriptedTarget(fail={3: ReplicaLost("killed")}), ScriptedTarget()
    fleet = ScriptedFleet([first, second], {"good": ScriptedDrafter("good", 5)})
    run = Run(fleet, ["good"], learn=False)
    assert await run.finish() == EXPECTED
    assert second.specs[0].emitted_ids.tolist() == EXPECTED[:18]
    assert (run.events.num_migrations, fleet.num_leased, fleet.num_returned) == (1, 2, 2)
    assert not second.open_sessions


async def test_answer_fails_clearly_when_targets_keep_dying():
    targets = [ScriptedTarget(fail={0: ReplicaLost("killed")}) for _ in range(4)]
    run = Run(ScriptedFleet(targets), [], max_migrations=2)
    with pytest.raises(TargetUnavailable, match="lost 3 times"):
        await run.finish()


async def test_hung_target_is_given_up_after_the_verify_deadline():
    class Hung(ScriptedTarget):
        async def verify(self, session_id, round_index, tree):
            await asyncio.sleep(30)

    run = Run(ScriptedFleet([Hung(), ScriptedTarget()]), [], verify_deadline_s=0.05)
    assert await run.finish() == EXPECTED


async def test_closing_the_iterator_frees_target_and_drafters():
    target, drafter = ScriptedTarget(), ScriptedDrafter("d", 1)
    run = Run(fleet_of(drafter, target=target), ["d"])
    reports = run.loop.rounds()
    await anext(reports)
    await reports.aclose()
    await run.panel.close()
    assert not target.open_sessions
    assert not drafter.sessions
    assert run.fleet.num_returned == 1


async def test_late_scores_are_used_late_and_never_delay_a_round():
    """The answer ends although one drafter's scores are held back throughout; they count when they come."""
    slow = ScriptedDrafter("slow", 5)
    slow.scoring.clear()
    run = Run(fleet_of(slow, ScriptedDrafter("quick", 0)), ["slow", "quick"], score_timeout_rounds=100)
    async for report in run.loop.rounds():
        run.reports.append(report)
    assert run.learner is not None
    assert np.array_equal(run.reports[-1].weights, [0.5, 0.5])
    slow.scoring.set()
    await run.panel.close()
    run.learner.finish()
    assert run.learner.expected_passes() == pytest.approx({0: 7, 1: 40})
