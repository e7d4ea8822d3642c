"""An answer ends at its stop strings, its stop ids and its token limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hedgespec.router.stopping import StopStrings, find_ending
from hedgespec.types import SamplingParams

END = frozenset({7})


@pytest.mark.parametrize(
    ("tokens", "before", "limit", "kept", "reason"),
    [
        ([1, 2, 3], 0, 10, 3, None),
        ([1, 7, 3], 0, 10, 2, "stop"),
        ([1, 2, 3], 8, 10, 2, "length"),
        ([1, 7, 3], 8, 10, 2, "stop"),  # the end token at the very limit wins
        ([1, 2, 7], 8, 10, 2, "length"),  # the end token lies behind the limit
        ([1], 9, 10, 1, "length"),
    ],
)
def test_answer_ends_at_the_first_end_token_or_at_the_limit(tokens, before, limit, kept, reason):
    ending = find_ending(tokens, before, SamplingParams(max_tokens=limit), END)
    assert (ending.num_tokens, ending.finish_reason) == (kept, reason)


def show(stop: tuple[str, ...], pieces: list[str]) -> tuple[str, bool]:
    """Return everything a client sees, and whether a stop string ended it."""
    strings, shown = StopStrings(stop), ""
    for piece in pieces:
        text, met = strings.push(piece)
        shown += text
        if met:
            return shown, True
    return shown + strings.flush(), False


@given(
    text=st.text(alphabet="abc", max_size=30),
    stop=st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=3),
    data=st.data(),
)
def test_stop_strings_cut_streamed_text_exactly_where_they_cut_whole_text(text, stop, data):
    """The client sees the text before the earliest stop string and nothing after, however text is split into pieces."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    shown, met = show(tuple(stop), pieces)
    assert met == any(s in text for s in stop)
    assert text.startswith(shown)
    assert not any(s in shown for s in stop)
    if not met:
        assert shown == text
    else:  # the cut is at the start of a stop string that is complete at the earliest possible moment
        assert any(text.startswith(s, len(shown)) for s in stop)


def test_text_that_may_begin_a_stop_string_is_held_back():
    strings = StopStrings(("END",))
    assert strings.push("xE") == ("x", False)
    assert strings.push("N") == ("", False)
    assert strings.push("o") == ("ENo", False)
