"""Catching up for scores is cut into passes that a draft can wait for."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hedgespec.models.drafting.score_loops import CATCH_UP_PARTS, CATCH_UP_ROWS, in_parts


@settings(max_examples=200, deadline=None, derandomize=True)
@given(sizes=st.lists(st.integers(0, 2 * CATCH_UP_ROWS), max_size=12))
def test_parts_hold_every_session_once_and_no_more_rows_than_they_must(sizes: list[int]) -> None:
    sessions: list[Any] = list(enumerate(sizes))
    parts = list(in_parts(sessions, lambda session: session[1]))
    assert [session for part in parts for session in part] == sessions
    assert all(parts)
    most = max(CATCH_UP_ROWS, sum(sizes) // CATCH_UP_PARTS)
    for part in parts:
        assert len(part) == 1 or sum(size for _, size in part) <= most
    for part, following in pairwise(parts):
        assert sum(size for _, size in part) + following[0][1] > most, "no pass more than needed"
