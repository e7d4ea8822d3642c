"""The schedulers decide with tickets and counts alone: order, chunks, grace, and what a closed session takes with it."""

from __future__ import annotations

import numpy as np
import pytest

from hedgespec.engine.scheduler import MAX_SCORE_DELAYS, DrafterScheduler, TargetScheduler
from hedgespec.engine.work import CloseSession, Observe, OpenSession, Ticket, Verify, Work
from hedgespec.errors import UnknownSession
from hedgespec.types import (
    EMPTY_DRAFT,
    DraftRequest,
    Observation,
    PromptScoreRequest,
    SamplingParams,
    SessionSpec,
    SparseRows,
)


def ticket(work: Work, arrived_s: float = 0.0) -> Ticket:
    return Ticket(work, arrived_s)


def opening(session_id: str, num_tokens: int) -> Ticket:
    prompt = np.ones(num_tokens, np.int32)
    spec = SessionSpec(session_id, prompt, np.zeros(0, np.int32), SamplingParams(), noise_seed=0, max_draft_tokens=4)
    return ticket(OpenSession(spec))


def verifying(session_id: str) -> Ticket:
    return ticket(Verify(session_id, EMPTY_DRAFT))


def drafting(session_id: str, arrived_s: float = 0.0) -> Ticket:
    return ticket(DraftRequest(session_id, 0, 4, drafter_id="d"), arrived_s)


def by_drafter(asked: Ticket) -> str:
    assert not isinstance(asked.work, Verify)
    return asked.work.drafter_id


def scoring(session_id: str, drafter_id: str = "d") -> Ticket:
    return ticket(Observe(session_id, Observation(0, np.ones(1, np.int32), np.ones(1, np.float32)), drafter_id))


def chunks(scheduler: TargetScheduler) -> list[tuple[str, int]]:
    """Plan one step and pretend that it ran."""
    plan = scheduler.plan()
    for prefill, num_rows in plan.chunks:
        scheduler.advance(prefill, num_rows)
    return [(prefill.ticket.work.session_id, num_rows) for prefill, num_rows in plan.chunks]


def test_a_long_prompt_is_read_in_chunks_and_all_but_its_last_token() -> None:
    scheduler = TargetScheduler(chunk_tokens=10)
    scheduler.add(opening("a", 26))
    assert [chunks(scheduler) for _ in range(4)] == [[("a", 10)], [("a", 10)], [("a", 5)], []]
    assert not scheduler.has_work()


def test_the_chunk_budget_is_shared_first_come_first_served() -> None:
    scheduler = TargetScheduler(chunk_tokens=10)
    for session_id, num_tokens in (("a", 14), ("b", 4), ("c", 1), ("d", 9)):
        scheduler.add(opening(session_id, num_tokens))
    assert chunks(scheduler) == [("a", 10), ("c", 0)]
    assert chunks(scheduler) == [("a", 3), ("b", 3), ("d", 4)]
    assert chunks(scheduler) == [("d", 4)]


def test_verifies_run_beside_chunks_but_wait_for_their_own_prefill() -> None:
    scheduler = TargetScheduler(chunk_tokens=4)
    scheduler.add(opening("a", 7))
    scheduler.add(verifying("a"))
    scheduler.add(verifying("b"))
    plan = scheduler.plan()
    assert [t.work.session_id for t in plan.verifies] == ["b"]
    scheduler.advance(plan.chunks[0][0], 4)
    scheduler.advance(scheduler.plan().chunks[0][0], 2)
    assert [t.work.session_id for t in scheduler.plan().verifies] == ["a"]


def test_cancelled_work_that_has_not_started_is_dropped() -> None:
    scheduler = TargetScheduler(chunk_tokens=4)
    cancelled_open, cancelled_verify = opening("a", 7), verifying("b")
    for cancelled in (cancelled_open, cancelled_verify):
        scheduler.add(cancelled)
        assert cancelled.future.cancel()
    plan = scheduler.plan()
    assert not plan.chunks
    assert not plan.verifies


def test_closing_takes_pending_work_of_the_session_with_it() -> None:
    scheduler = TargetScheduler(chunk_tokens=4)
    first, verify = opening("a", 7), verifying("a")
    for arrived in (first, verify, ticket(CloseSession("a"))):
        scheduler.add(arrived)
    plan = scheduler.plan()
    assert [t.work.session_id for t in plan.closes][-1] == "a"
    assert not plan.chunks
    for lost in (first, verify):
        with pytest.raises(UnknownSession):
            lost.future.result(0)


def test_a_session_opened_again_is_closed_first() -> None:
    scheduler = TargetScheduler(chunk_tokens=4)
    old, new = opening("a", 7), opening("a", 3)
    scheduler.add(old)
    scheduler.plan()
    scheduler.add(new)
    plan = scheduler.plan()
    assert [t.work.session_id for t in plan.closes] == ["a"]
    assert [prefill.ticket for prefill, _ in plan.chunks] == [new]
    with pytest.raises(UnknownSession, match="opened again"):
        old.future.result(0)


def test_drafts_run_before_scores() -> None:
    scheduler = DrafterScheduler(feature_grace_s=0.02)
    draft, score = drafting("a"), scoring("b")
    scheduler.add_score(score)
    scheduler.add(draft)
    first = scheduler.plan(0.0, lambda t: True, by_drafter)
    assert (first.drafts, first.scores, first.wait_s) == ([draft], [], 0.0)
    assert scheduler.plan(0.0, lambda t: True, by_drafter).scores == [score]


def test_prompts_are_scored_after_drafts_and_forgotten_with_their_session() -> None:
    empty = SparseRows(np.zeros(1, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))
    scheduler = DrafterScheduler(feature_grace_s=0.02)
    draft, kept, closed = (
        drafting("b"),
        ticket(PromptScoreRequest("b", empty, "d")),
        ticket(PromptScoreRequest("a", empty, "d")),
    )
    for prompt in (kept, closed):
        scheduler.add(prompt)
    for arrived in scheduler.take_changes():
        scheduler.add_score(arrived)
    scheduler.add(draft)
    assert scheduler.plan(0.0, lambda t: True, by_drafter).drafts == [draft]
    scheduler.add(ticket(CloseSession("a", "d")))
    with pytest.raises(UnknownSession):
        closed.future.result(0)
    assert scheduler.plan(0.0, lambda t: True, by_drafter).scores == [kept]


def test_scores_of_one_drafter_run_together_and_of_a_group_one_after_another() -> None:
    scheduler = DrafterScheduler(feature_grace_s=0.02)
    scores = [scoring(session_id, drafter_id) for session_id in "ab" for drafter_id in ("d", "e")]
    for score in scores:
        scheduler.add_score(score)
    first, second = scheduler.plan(0.0, lambda t: True, by_drafter), scheduler.plan(0.0, lambda t: True, by_drafter)
    assert (first.scores, first.wait_s) == (scores[0::2], 0.0)
    assert (second.scores, second.wait_s) == (scores[1::2], None)


def test_scores_of_drafters_that_compute_together_run_together() -> None:
    scheduler = DrafterScheduler(feature_grace_s=0.02)
    scores = [scoring("a", drafter_id) for drafter_id in ("d", "e", "f")]
    for score in scores:
        scheduler.add_score(score)
    plan = scheduler.plan(0.0, lambda t: True, lambda asked: "f" if by_drafter(asked) == "f" else "d")
    assert (plan.scores, plan.wait_s) == (scores[:2], 0.0)


def test_scores_are_not_starved_by_drafts_for_ever() -> None:
    scheduler = DrafterScheduler(feature_grace_s=0.02)
    scheduler.add_score(scoring("b"))
    ran = []
    for _ in range(MAX_SCORE_DELAYS + 1):
        scheduler.add(drafting("a"))
        ran.append(len(scheduler.plan(0.0, lambda t: True, by_drafter).scores))
    assert ran == [0] * MAX_SCORE_DELAYS + [1]


def test_a_draft_waits_for_features_for_a_grace_while_others_run() -> None:
    scheduler = DrafterScheduler(feature_grace_s=0.02)
    waiting, ready = drafting("late", arrived_s=1.0), drafting("there", arrived_s=1.0)
    scheduler.add(waiting)
    scheduler.add(ready)
    plan = scheduler.plan(1.0, lambda t: t is ready, by_drafter)
    assert plan.drafts == [ready]
    assert plan.wait_s == pytest.approx(0.02)
    assert scheduler.plan(1.015, lambda t: False, by_drafter).wait_s == pytest.approx(0.005)
    assert scheduler.plan(1.0201, lambda t: False, by_drafter).drafts == [waiting]


def test_a_draft_runs_at_once_when_its_features_come() -> None:
    scheduler = DrafterScheduler(feature_grace_s=0.02)
    waiting = drafting("late", arrived_s=1.0)
    scheduler.add(waiting)
    assert not scheduler.plan(1.001, lambda t: False, by_drafter).drafts
    assert scheduler.plan(1.002, lambda t: True, by_drafter).drafts == [waiting]


def test_a_newer_draft_of_a_session_replaces_a_waiting_one() -> None:
    scheduler = DrafterScheduler(feature_grace_s=0.02)
    old, new, other = drafting("a"), drafting("a"), drafting("b")
    for draft in (old, other, new):
        scheduler.add(draft)
    assert scheduler.plan(0.0, lambda t: True, by_drafter).drafts == [other, new]
    assert isinstance(old.future.exception(0), UnknownSession)


def test_a_closed_session_forgets_drafts_and_scores() -> None:
    scheduler = DrafterScheduler(feature_grace_s=0.02)
    draft, score, kept = drafting("a"), scoring("a"), scoring("b")
    scheduler.add(draft)
    scheduler.add_score(score)
    scheduler.add_score(kept)
    scheduler.add(ticket(CloseSession("a", "d")))
    later = drafting("a")
    scheduler.add(later)
    plan = scheduler.plan(0.0, lambda t: True, by_drafter)
    assert plan.drafts == [later], "it arrived after the close and gets its own answer"
    assert scheduler.plan(0.0, lambda t: True, by_drafter).scores == [kept]
    for lost in (draft, score):
        assert isinstance(lost.future.exception(0), UnknownSession)
