"""Scores may be asked for later than their tokens were verified: the deadline counts from the asking."""

from __future__ import annotations

import numpy as np

from hedgespec.learning.feedback import Feedback, make_feedback
from hedgespec.types import Scores

TIMEOUT_ROUNDS, PERIOD = 3, 8


def made() -> Feedback:
    return make_feedback("rounds", 2, 1, TIMEOUT_ROUNDS)


def push(feedback: Feedback, drafter: int, start: int, num_tokens: int) -> None:
    feedback.push(drafter, Scores(start, np.full((num_tokens, 1), 0.5, np.float32)))


def test_positions_that_were_not_asked_for_have_no_deadline() -> None:
    """Unasked positions stay open even far behind the timeout, and no drafter counts as absent: later scores close them
    for all."""
    feedback = made()
    for round_index in range(PERIOD):
        feedback.verified(2, round_index, is_asked=False)
        assert feedback.closed_losses(round_index) == []
    feedback.asked(PERIOD - 1)
    for drafter in range(2):
        push(feedback, drafter, 0, 2 * PERIOD)
    vectors = feedback.closed_losses(PERIOD)
    assert len(vectors) == 2 * PERIOD
    assert all(awake.all() for _, awake in vectors)
    assert feedback.scored_throughout().all()


def test_a_backlog_waits_for_drafters_that_join_later() -> None:
    """Unasked positions do not close while every drafter is absent: a drafter that joins before the asking scores them."""
    feedback = made()
    for drafter in range(2):
        feedback.mark_absent(drafter)
    feedback.verified(4, 0, is_asked=False)
    assert feedback.closed_losses(PERIOD) == []
    push(feedback, 1, 0, 4)
    assert feedback.closed_losses(PERIOD) == []
    feedback.asked(PERIOD)
    assert [awake.tolist() for _, awake in feedback.closed_losses(PERIOD)] == [[False, True]] * 4


def test_the_deadline_counts_from_the_asking() -> None:
    """Every position asked for in round r closes in round r + score_timeout_rounds and not before."""
    feedback = made()
    for round_index in range(PERIOD):
        feedback.verified(1, round_index, is_asked=False)
    feedback.asked(PERIOD)
    push(feedback, 0, 0, PERIOD)
    assert feedback.closed_losses(PERIOD + TIMEOUT_ROUNDS - 1) == []
    vectors = feedback.closed_losses(PERIOD + TIMEOUT_ROUNDS)
    assert [awake.tolist() for _, awake in vectors] == [[True, False]] * PERIOD


def test_asking_again_does_not_move_a_deadline() -> None:
    """Positions that were asked for before keep their round; only the backlog gets this one."""
    feedback = made()
    feedback.verified(1, 0)
    feedback.verified(1, 1, is_asked=False)
    feedback.asked(2)
    push(feedback, 0, 0, 1)
    assert [awake.tolist() for _, awake in feedback.closed_losses(TIMEOUT_ROUNDS)] == [[True, False]]
    assert feedback.closed_losses(TIMEOUT_ROUNDS + 1) == []
    push(feedback, 0, 1, 1)
    assert [awake.tolist() for _, awake in feedback.closed_losses(TIMEOUT_ROUNDS + 1)] == [[True, False]]


def test_a_backlog_behind_a_missed_deadline_is_still_open() -> None:
    """A drafter that missed an older deadline scores the backlog in its turn and is awake there."""
    feedback = made()
    feedback.verified(1, 0)
    feedback.verified(4, 1, is_asked=False)
    push(feedback, 0, 0, 1)
    ((_, awake),) = feedback.closed_losses(TIMEOUT_ROUNDS)
    assert awake.tolist() == [True, False]
    feedback.asked(TIMEOUT_ROUNDS)
    push(feedback, 1, 1, 4)
    push(feedback, 0, 1, 4)
    assert all(awake.all() for _, awake in feedback.closed_losses(TIMEOUT_ROUNDS))


def test_the_end_closes_what_was_never_asked_for() -> None:
    """`finish` waits for nothing: the unasked rest is no evidence when no drafter scored it."""
    feedback = made()
    feedback.verified(3, 0, is_asked=False)
    push(feedback, 0, 0, 1)
    assert [awake.tolist() for _, awake in feedback.finish()] == [[True, False]]
    assert not feedback.scored_throughout().any()
