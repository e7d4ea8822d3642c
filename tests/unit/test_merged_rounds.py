"""Rounds in which several drafters propose at the same time, and baselines that learn from rounds alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import numpy as np
import pytest

from hedgespec.errors import InvalidDraft, ReplicaLost
from hedgespec.router.accounting import AnswerAccount
from hedgespec.router.panel import Presence
from hedgespec.types import DraftRequest, DraftTree, Verdict
from tests.scripted_answer import EXPECTED, Run, fleet_of
from tests.scripted_models import ScriptedDrafter, ScriptedTarget

MERGED = {"merge_drafters": 2, "num_nodes": 10}


@dataclass
class OffByOne(ScriptedDrafter):
    """A drafter that proposes what no other scripted drafter does."""

    async def draft(self, request: DraftRequest) -> DraftTree:
        tree = await super().draft(request)
        return DraftTree(tree.token_ids + np.int32(300), tree.parent, drafter_id=self.drafter_id)


async def test_one_merged_tree_is_verified_and_accepted_tokens_are_credited_to_their_drafters() -> None:
    target, right, wrong = ScriptedTarget(), ScriptedDrafter("right", 5), OffByOne("wrong", 5)
    run = Run(fleet_of(wrong, right, target=target), ["wrong", "right"], **MERGED)
    account = AnswerAccount(3, 0.0)
    async for report in run.loop.rounds():
        account.add(report)
        run.reports.append(report)
    assert await run.settle() == EXPECTED
    assert len(target.trees) == len(run.reports), "one verify per round"
    first = run.reports[0]
    assert {s.drafter_id: (s.num_drafted, s.num_accepted) for s in first.merged} == {"wrong": (5, 0), "right": (5, 5)}
    assert (first.drafter_id, first.num_drafted, first.num_accepted, first.depth) == ("right", 10, 5, 5)
    stats = account.close(run.answer, len(run.reports[-1].token_ids))
    assert stats.accepted_by_drafter["right"] == stats.num_accepted == 40 - len(run.reports)
    assert stats.accepted_by_drafter["wrong"] == 0
    assert sum(stats.drafted_by_drafter.values()) == stats.num_drafted
    assert len(stats.accepted_per_position) == 5, "positions along a path, not nodes"


async def test_nodes_follow_the_weights_and_a_drafter_without_any_is_not_asked() -> None:
    """The learner learns that one drafter is useless; its share goes to the other until it gets no node at all."""
    good, bad = ScriptedDrafter("good", 5), ScriptedDrafter("bad", 0)
    run = Run(fleet_of(good, bad), ["good", "bad"], merge_drafters=2)
    assert await run.finish() == EXPECTED
    assert good.asked_for[0] == (3, 3)
    assert bad.asked_for[0] == (2, 2)
    assert good.asked_for[-2] == (5, 5)
    assert bad.num_drafts < good.num_drafts


async def test_a_dead_drafter_falls_out_of_merged_rounds() -> None:
    dead = ScriptedDrafter("dead", 5, fail_draft=ReplicaLost("gone"))
    run = Run(fleet_of(dead, ScriptedDrafter("alive", 2)), ["dead", "alive"], **MERGED)
    assert await run.finish() == EXPECTED
    assert run.events.failures == {("dead", "ReplicaLost"): 1}
    assert all(r.drafter_id == "alive" for r in run.reports if r.num_drafted)
    assert run.reports[0].num_drafted == 5


async def test_a_frozen_drafter_costs_one_deadline_and_merged_rounds_go_on_without_it() -> None:
    frozen, alive = OffByOne("frozen", 5), ScriptedDrafter("alive", 2)
    run = Run(fleet_of(frozen, alive), ["frozen", "alive"], **MERGED)
    async for report in run.loop.rounds():
        run.reports.append(report)
        if report.round_index == 0:
            frozen.running.clear()
        if report.round_index == 4:
            frozen.running.set()
            await asyncio.sleep(0.01)
    assert await run.settle() == EXPECTED
    assert run.events.failures == {("frozen", "deadline"): 1}
    proposed = [{s.drafter_id for s in r.shares} for r in run.reports]
    assert proposed[0] == {"frozen", "alive"}
    assert proposed[1:5] == [{"alive"}] * 4
    assert run.panel.presence[0] is Presence.READY


async def test_a_refused_merged_draft_blames_no_drafter_until_its_author_is_known() -> None:
    """Drafters propose one at a time after a refused merged draft; one is dropped for a draft that it alone has made."""
    target = ScriptedTarget(fail={1: InvalidDraft("a lie")})
    run = Run(fleet_of(OffByOne("a", 5), ScriptedDrafter("b", 5), target=target), ["a", "b"], **MERGED)
    assert await run.finish() == EXPECTED
    assert not run.events.failures
    assert len(run.reports[0].merged) == 2
    assert run.reports[1].num_drafted == 0
    assert all(not r.merged for r in run.reports[1:])

    alone = ScriptedTarget(fail={1: InvalidDraft("a lie"), 2: InvalidDraft("again")})
    run = Run(fleet_of(OffByOne("a", 5), ScriptedDrafter("b", 5), target=alone), ["a", "b"], **MERGED)
    assert await run.finish() == EXPECTED
    assert sum(run.events.failures.values()) == 1


async def test_a_target_that_accepts_nodes_that_were_never_drafted_is_given_up() -> None:
    """The verdict can be credited to no drafter, and it cannot be trusted: another target goes on."""

    class Confused(ScriptedTarget):
        async def verify(self, session_id: str, round_index: int, tree: DraftTree) -> Verdict:
            verdict = await super().verify(session_id, round_index, tree)
            return replace(verdict, accepted_nodes=verdict.accepted_nodes + 100)

    fleet = fleet_of(ScriptedDrafter("a", 5), OffByOne("b", 5))
    fleet.targets[:] = [Confused(), ScriptedTarget()]
    run = Run(fleet, ["a", "b"], **MERGED)
    assert await run.finish() == EXPECTED
    assert run.events.num_migrations == 1


async def test_all_drafters_failing_is_a_round_without_speculation() -> None:
    drafters = [ScriptedDrafter(name, 5, fail_draft=ReplicaLost("gone")) for name in "ab"]
    run = Run(fleet_of(*drafters), ["a", "b"], **MERGED)
    assert await run.finish() == EXPECTED
    assert all(r.drafter_id is None and not r.merged for r in run.reports)


@pytest.mark.parametrize("merge_drafters", [1, 2, 3])
@pytest.mark.parametrize("every", [1, 5])
@pytest.mark.parametrize("wake", [0, 6])
async def test_text_is_the_same_for_every_schedule_nap_and_merge(merge_drafters: int, every: int, wake: int) -> None:
    drafters = [ScriptedDrafter("a", 1), ScriptedDrafter("b", 3), OffByOne("c", 5)]
    run = Run(
        fleet_of(*drafters),
        ["a", "b", "c"],
        num_tokens=120,
        merge_drafters=merge_drafters,
        num_nodes=12 if merge_drafters > 1 else 0,
        score_dense_rounds=2,
        score_every=every,
        wake_every_rounds=wake,
    )
    assert await run.finish() == list(range(4, 124))
