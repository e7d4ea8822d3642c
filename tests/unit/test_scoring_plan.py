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
    rounds=st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=40),
    dense=st.integers(0, 10),
    every=st.integers(1, 9),
)
def test_every_position_is_asked_for_once_but_of_who_slept_through_it(
    rounds: list[tuple[int, bool]], dense: int, every: int
) -> None:
    """Drafter 0 never sleeps, drafter 1 may change at every occasion; the last round of the answer is an occasion."""
    plan = ScoringPlan(2, dense, every)
    asked: list[list[int]] = [[], []]
    expected: list[list[int]] = [[], []]
    observed, awake = 0, EVERYBODY.copy()
    for round_index, (count, sleeps_next) in enumerate(rounds):
        plan.observe(count, awake)
        for index in np.flatnonzero(awake):
            expected[index].extend(range(observed, observed + count))
        observed += count
        if round_index == len(rounds) - 1 or plan.is_due(round_index):
            for index, first in enumerate(plan.take() or (None, None)):
                if first is not None:
                    asked[index].extend(range(first, observed))
            awake[1] = not sleeps_next
    assert asked == expected


def test_nothing_observed_is_nothing_asked() -> None:
    plan = ScoringPlan(2, dense_rounds=0, every=3)
    plan.observe(0, EVERYBODY)
    assert plan.take() is None
    plan.observe(3, ~EVERYBODY)
    assert plan.take() is None
    plan.observe(2, EVERYBODY)
    assert plan.take() == (3, 3)
    assert plan.take() is None


@pytest.mark.parametrize("every", [1, 5])
def test_dense_rounds_are_due_whatever_comes_later(every: int) -> None:
    plan = ScoringPlan(1, dense_rounds=8, every=every)
    assert all(plan.is_due(r) for r in range(8))
