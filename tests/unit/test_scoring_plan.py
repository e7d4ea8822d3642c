"""The scoring plan asks for scores densely at first, then seldom, and for every position exactly once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hedgespec.learning.scoring_plan import ScoringPlan, sweep

ALL_AWAKE = np.ones(2, dtype=bool)


def test_dense_rounds_are_sweeps_of_their_own_and_later_ones_grow() -> None:
    sweeps = sorted({sweep(r, 2, 4) for r in range(26)})
    assert sweeps == [(0, 1), (1, 1), (2, 1), (3, 2), (5, 2), (7, 3), (10, 3), (13, 4), (17, 4), (21, 4), (25, 4)]


@pytest.mark.parametrize(("dense", "every"), [(0, 1), (3, 1), (0, 2), (5, 7)])
def test_every_round_belongs_to_one_sweep(dense: int, every: int) -> None:
    for round_index in range(100):
        first, length = sweep(round_index, dense, every)
        assert first <= round_index < first + length <= first + every


def test_within_a_sweep_every_drafter_has_one_turn() -> None:
    plan = ScoringPlan(5, dense_rounds=0, every=3)
    asked: list[list[int]] = []
    for round_index in range(3 + 9):
        plan.observe(1, np.ones(5, dtype=bool))
        asked.append([i for i, first in enumerate(plan.take(round_index) or ()) if first is not None])
    # sweeps of 1, 2, 2, 3, 3 rounds begin in rounds 0, 1, 3, 5, 8
    assert asked[0] == [0, 1, 2, 3, 4]
    assert asked[1:5] == [[0, 1, 2], [3, 4]] * 2
    assert asked[5:11] == [[0, 1], [2, 3], [4]] * 2


def test_drafters_of_a_group_are_asked_together_and_the_sweep_ends_with_the_last_group() -> None:
    plan = ScoringPlan(5, dense_rounds=0, every=4, groups=[0, 0, 1, 0, 1])
    asked, ends = [], []
    for round_index in range(12):
        plan.observe(1, np.ones(5, dtype=bool))
        asked.append([i for i, first in enumerate(plan.take(round_index) or ()) if first is not None])
        ends.append(plan.ends_sweep(round_index))
    # sweeps of 1, 2, 2, 3, 3 rounds begin in rounds 0, 1, 3, 5, 8
    assert asked[:5] == [[0, 1, 2, 3, 4], [0, 1, 3], [2, 4], [0, 1, 3], [2, 4]]
    assert asked[5:11] == [[0, 1, 3], [2, 4], []] * 2
    assert [r for r in range(11) if ends[r]] == [0, 2, 4, 6, 9]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    rounds=st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=40),
    dense=st.integers(0, 10),
    every=st.integers(1, 9),
    is_group=st.booleans(),
)
def test_every_position_is_asked_for_once_unless_the_drafter_slept_through_it(
    rounds: list[tuple[int, bool]], dense: int, every: int, is_group: bool
) -> None:
    """Drafter 0 never sleeps, drafter 1 may change whenever a sweep begins; in the last round all drafters are asked."""
    plan = ScoringPlan(2, dense, every, [0, 0] if is_group else None)
    asked: list[list[int]] = [[], []]
    expected: list[list[int]] = [[], []]
    observed, awake = 0, ALL_AWAKE.copy()
    for round_index, (count, sleeps_next) in enumerate(rounds):
        plan.observe(count, awake)
        for index in np.flatnonzero(awake):
            expected[index].extend(range(observed, observed + count))
        observed += count
        if plan.begins_sweep(round_index):
            awake[1] = not sleeps_next
        is_last = round_index == len(rounds) - 1
        for index, first in enumerate(plan.take(round_index, all_drafters=is_last) or (None, None)):
            if first is not None:
                asked[index].extend(range(first, observed))
    assert asked[0] == expected[0]
    assert len(set(asked[1])) == len(asked[1])
    assert set(asked[1]) >= set(expected[1]), (
        "a drafter that falls asleep in a sweep still answers for what came before"
    )


def test_nothing_observed_is_nothing_asked() -> None:
    plan = ScoringPlan(2, dense_rounds=0, every=3)
    plan.observe(0, ALL_AWAKE)
    assert plan.take(0, all_drafters=True) is None
    plan.observe(3, ~ALL_AWAKE)
    assert plan.take(0, all_drafters=True) is None
    plan.observe(2, ALL_AWAKE)
    assert plan.take(1, all_drafters=True) == (3, 3)
    assert plan.take(2, all_drafters=True) is None


def test_a_sleeper_still_owes_what_came_before() -> None:
    plan = ScoringPlan(2, dense_rounds=0, every=2)
    plan.observe(2, ALL_AWAKE)
    plan.observe(3, np.array([True, False]))
    plan.observe(1, np.array([True, False]))
    assert plan.take(0, all_drafters=True) == (0, 0)
    plan.observe(4, np.array([True, False]))
    assert plan.take(1, all_drafters=True) == (6, None)
