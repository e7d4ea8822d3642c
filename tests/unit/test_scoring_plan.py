"""When scores are asked for: densely at first, then seldom, and every position exactly once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hedgespec.router.scoring_plan import ScoringPlan

EVERYBODY = np.ones(2, dtype=bool)


def test_first_rounds_are_dense_and_later_ones_every_so_many() -> None:
    plan = ScoringPlan(2, dense_rounds=3, every=4)
    assert [r for r in range(16) if plan.is_due(r)] == [0, 1, 2, 6, 10, 14]


def test_every_round_is_due_when_every_is_one() -> None:
    plan = ScoringPlan(2, dense_rounds=0, every=1)
    assert all(plan.is_due(r) for r in range(10))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    tokens=st.lists(st.integers(1, 6), min_size=1, max_size=40),
    dense=st.integers(0, 10),
    every=st.integers(1, 9),
)
def test_a_drafter_that_never_sleeps_scores_every_position_exactly_once(
    tokens: list[int], dense: int, every: int
) -> None:
    """Whatever the schedule and the lengths of rounds, the last occasion of an answer included."""
    plan, scored, observed = ScoringPlan(1, dense, every), [], 0
    awake = np.ones(1, dtype=bool)
    for round_index, count in enumerate(tokens):
        plan.observe(count, awake)
        observed += count
        if round_index == len(tokens) - 1 or plan.is_due(round_index):
            occasion = plan.take(awake)
            assert occasion is not None
            assert sum(n for n, _ in occasion.stretches) == observed - len(scored)
            first = occasion.score_from[0]
            assert first is not None
            scored.extend(range(first, observed))
    assert scored == list(range(observed))


def test_a_sleeper_is_not_asked_and_after_waking_only_for_what_came_since() -> None:
    plan = ScoringPlan(2, dense_rounds=0, every=3)
    plan.observe(2, np.array([True, False]))
    plan.observe(3, EVERYBODY)
    occasion = plan.take(EVERYBODY)
    assert occasion is not None
    assert occasion.score_from == (0, 2)
    assert [(n, asked.tolist()) for n, asked in occasion.stretches] == [(2, [True, False]), (3, [True, True])]


def test_who_falls_asleep_with_a_backlog_is_not_waited_for() -> None:
    plan = ScoringPlan(2, dense_rounds=0, every=3)
    plan.observe(4, EVERYBODY)
    occasion = plan.take(np.array([True, False]))
    assert occasion is not None
    assert occasion.score_from == (0, None)
    assert occasion.stretches[0][1].tolist() == [True, False]


def test_nothing_observed_is_nothing_asked() -> None:
    plan = ScoringPlan(2, dense_rounds=0, every=3)
    plan.observe(0, EVERYBODY)
    assert plan.take(EVERYBODY) is None


def test_masks_are_copied() -> None:
    """Who was awake then is remembered, although the caller's mask changes."""
    plan, awake = ScoringPlan(2, dense_rounds=0, every=3), EVERYBODY.copy()
    plan.observe(1, awake)
    awake[0] = False
    occasion = plan.take(EVERYBODY)
    assert occasion is not None
    assert occasion.score_from == (0, 0)


@pytest.mark.parametrize("every", [1, 5])
def test_dense_rounds_are_due_whatever_comes_later(every: int) -> None:
    plan = ScoringPlan(1, dense_rounds=8, every=every)
    assert all(plan.is_due(r) for r in range(8))
