"""Whatever the order of questions, every drafter is told every verified token once and in order."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hedgespec.router.untold import MAX_UNTOLD, Untold
from hedgespec.types import Observation, SparseRows


def observation(start: int, num_tokens: int) -> Observation:
    ids = np.arange(start, start + num_tokens, dtype=np.int32)
    top = SparseRows(np.arange(num_tokens + 1, dtype=np.int32), ids, np.ones(num_tokens, np.float32))
    return Observation(start, ids, np.ones(num_tokens, np.float32), top)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(1, 6), st.sampled_from(["", "0", "1", "01"])), min_size=1, max_size=60))
def test_everything_is_told_once_and_in_order(rounds: list[tuple[int, str]]) -> None:
    untold = Untold(2)
    told: list[list[int]] = [[], []]
    end = 0
    for num_tokens, asked in rounds:
        untold.add(observation(end, num_tokens))
        end += num_tokens
        for index in range(2):
            if str(index) in asked or untold.is_full(index):
                part = untold.take(index)
                assert part.start == len(told[index])
                assert part.target_top is not None
                assert part.target_top.ids.tolist() == part.token_ids.tolist()
                told[index].extend(part.token_ids.tolist())
                assert untold.knows_all(index)
    for index in range(2):
        told[index].extend(untold.take(index).token_ids.tolist())
    assert told == [list(range(end))] * 2


def test_a_drafter_that_is_never_asked_is_told_before_anything_is_forgotten() -> None:
    untold = Untold(1)
    full = []
    for round_index in range(2 * MAX_UNTOLD):
        untold.add(observation(3 * round_index, 3))
        if untold.is_full(0):
            full.append(round_index)
            untold.take(0)
    assert full == [MAX_UNTOLD - 1, 2 * MAX_UNTOLD - 1]


def test_drafters_that_know_the_same_are_told_the_same_object() -> None:
    untold = Untold(3)
    untold.add(observation(0, 2))
    untold.take(2)
    untold.add(observation(2, 2))
    assert untold.take(0, 0) is untold.take(1, 0)
    untold.add(observation(4, 2))
    assert untold.take(0) is not untold.take(1, 4)


def test_what_is_told_says_from_where_on_scores_are_wanted() -> None:
    untold = Untold(3)
    untold.add(observation(0, 2))
    untold.add(observation(2, 2))
    plain, whole, rest = untold.take(0), untold.take(1, 0), untold.take(2, 2)
    assert [(told.wants_scores, told.score_from) for told in (plain, whole, rest)] == [
        (False, None),
        (True, None),
        (True, 2),
    ]
    backlog = untold.take(0, 1)
    assert (backlog.start, backlog.wants_scores, backlog.score_from) == (4, True, 1)


def test_who_knows_everything_can_still_be_asked_something() -> None:
    untold = Untold(1)
    assert untold.knows_all(0)
    untold.add(observation(0, 4))
    assert not untold.knows_all(0)
    untold.take(0)
    nothing = untold.take(0)
    assert (nothing.start, len(nothing.token_ids)) == (4, 0)
    assert nothing.target_top is not None
    assert nothing.target_top.num_rows == 0
