"""Positions close without drafters that sleep, and a sleeping drafter does not count as absent."""

from __future__ import annotations

import numpy as np

from hedgespec.learning.feedback import make_feedback
from hedgespec.types import Scores

AWAKE, NAPPING = np.array([True, True]), np.array([True, False])


def hits(start: int, count: int) -> Scores:
    return Scores(start, np.ones((count, 1), np.float32))


def test_a_position_closes_without_a_drafter_that_sleeps_through_it() -> None:
    feedback = make_feedback("rounds", 2, 3, 8)
    feedback.verified(2, 0, scorers=NAPPING)
    feedback.push(0, hits(0, 2))
    losses = feedback.closed_losses(0)
    assert [awake.tolist() for _, awake in losses] == [[True, False]] * 2
    assert feedback.scored_throughout().tolist() == [True, False]


def test_a_waking_drafter_is_waited_for_at_once() -> None:
    """The position stays open for the waking drafter although others answer first."""
    feedback = make_feedback("rounds", 2, 3, 8)
    feedback.verified(2, 0, scorers=NAPPING)
    feedback.verified(1, 1, scorers=AWAKE)
    feedback.push(0, hits(0, 3))
    assert len(feedback.closed_losses(1)) == 2
    feedback.push(1, hits(2, 1))
    (closed,) = feedback.closed_losses(1)
    assert closed[1].tolist() == [True, True]


def test_a_timeout_does_not_make_a_sleeper_absent() -> None:
    """Position 0 closes late because the other drafter is slow; only that one counts as absent afterwards."""
    feedback = make_feedback("rounds", 2, 3, 2)
    feedback.verified(1, 0, scorers=NAPPING)
    feedback.verified(1, 1, scorers=AWAKE)
    assert feedback.closed_losses(2) == [], "no drafter scored it, so there is no loss, but it is closed"
    feedback.push(0, hits(1, 1))
    assert feedback.closed_losses(2) == [], "still waits for the one that has woken"
    feedback.push(1, hits(1, 1))
    assert len(feedback.closed_losses(2)) == 1


def test_more_positions_than_the_first_buffer_keep_their_scorers() -> None:
    feedback = make_feedback("rounds", 2, 3, 1000)
    for round_index in range(100):
        feedback.verified(1, round_index, scorers=NAPPING if round_index % 2 else AWAKE)
    feedback.push(0, hits(0, 100))
    assert feedback.closed_losses(100) == []
    feedback.push(1, hits(0, 1))
    assert len(feedback.closed_losses(100)) == 2, "the next one sleeps, the one after that is awaited"
