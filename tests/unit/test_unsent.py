"""Every drafter is sent every verified token once and in order, whatever the order of requests."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hedgespec.router.unsent import MAX_UNSENT, Unsent
from hedgespec.types import Observation, SparseRows


def observation(start: int, num_tokens: int) -> Observation:
    ids = np.arange(start, start + num_tokens, dtype=np.int32)
    top = SparseRows(np.arange(num_tokens + 1, dtype=np.int32), ids, np.ones(num_tokens, np.float32))
    return Observation(start, ids, np.ones(num_tokens, np.float32), top)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(1, 6), st.sampled_from(["", "0", "1", "01"])), min_size=1, max_size=60))
def test_everything_is_sent_once_and_in_order(rounds: list[tuple[int, str]]) -> None:
    unsent = Unsent(2)
    sent: list[list[int]] = [[], []]
    end = 0
    for num_tokens, asked in rounds:
        unsent.add(observation(end, num_tokens))
        end += num_tokens
        for index in range(2):
            if str(index) in asked or unsent.is_full(index):
                part = unsent.take(index)
                assert part.start == len(sent[index])
                assert part.target_top is not None
                assert part.target_top.ids.tolist() == part.token_ids.tolist()
                sent[index].extend(part.token_ids.tolist())
                assert unsent.is_empty(index)
    for index in range(2):
        sent[index].extend(unsent.take(index).token_ids.tolist())
    assert sent == [list(range(end))] * 2


def test_a_drafter_that_is_never_asked_is_sent_before_anything_is_forgotten() -> None:
    unsent = Unsent(1)
    full = []
    for round_index in range(2 * MAX_UNSENT):
        unsent.add(observation(3 * round_index, 3))
        if unsent.is_full(0):
            full.append(round_index)
            unsent.take(0)
    assert full == [MAX_UNSENT - 1, 2 * MAX_UNSENT - 1]


def test_drafters_that_know_the_same_are_sent_the_same_object() -> None:
    unsent = Unsent(3)
    unsent.add(observation(0, 2))
    unsent.take(2)
    unsent.add(observation(2, 2))
    assert unsent.take(0, 0) is unsent.take(1, 0)
    unsent.add(observation(4, 2))
    assert unsent.take(0) is not unsent.take(1, 4)


def test_what_is_sent_says_from_where_on_scores_are_wanted() -> None:
    unsent = Unsent(3)
    unsent.add(observation(0, 2))
    unsent.add(observation(2, 2))
    plain, whole, rest = unsent.take(0), unsent.take(1, 0), unsent.take(2, 2)
    assert [(sent.wants_scores, sent.score_from) for sent in (plain, whole, rest)] == [
        (False, None),
        (True, None),
        (True, 2),
    ]
    backlog = unsent.take(0, 1)
    assert (backlog.start, backlog.wants_scores, backlog.score_from) == (4, True, 1)


def test_a_drafter_that_was_sent_everything_can_still_be_asked_for_scores() -> None:
    unsent = Unsent(1)
    assert unsent.is_empty(0)
    unsent.add(observation(0, 4))
    assert not unsent.is_empty(0)
    unsent.take(0)
    nothing = unsent.take(0)
    assert (nothing.start, len(nothing.token_ids)) == (4, 0)
    assert nothing.target_top is not None
    assert nothing.target_top.num_rows == 0
