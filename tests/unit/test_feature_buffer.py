"""The feature buffer drops features that are still on their way when their session ends."""

from __future__ import annotations

import numpy as np

from hedgespec.models.drafting.feature_buffer import MAX_REMEMBERED, FeatureBuffer
from hedgespec.types import FeatureBlock


def block(session_id: str, num_rows: int = 3) -> FeatureBlock:
    return FeatureBlock(session_id, 0, np.ones((num_rows, 6), np.float32))


def test_features_of_a_closed_session_are_dropped() -> None:
    """Features travel over gRPC on another stream than `close`: kept, they would stay until the buffer is full."""
    buffer = FeatureBuffer(width=6, max_rows=100)
    buffer.open("a")
    buffer.push(block("a"))
    buffer.close("a")
    buffer.push(block("a"))
    assert (buffer.num_rows, buffer.num_sessions) == (0, 0)


def test_a_session_that_is_opened_again_gets_its_features() -> None:
    """After a failover the same session comes back under the same name."""
    buffer = FeatureBuffer(width=6, max_rows=100)
    for _ in range(2):
        buffer.open("a")
        buffer.push(block("a"))
        assert buffer.take("a", 3)[0] == [0, 1, 2]
        buffer.close("a")


def test_features_may_still_come_before_their_session() -> None:
    buffer = FeatureBuffer(width=6, max_rows=100)
    buffer.push(block("a"))
    buffer.open("a")
    assert buffer.take("a", 3)[0] == [0, 1, 2]


def test_only_the_last_closed_sessions_are_remembered() -> None:
    """The memory of closed sessions is bounded: one that is long gone counts as one that is not open yet."""
    buffer = FeatureBuffer(width=6, max_rows=100)
    for index in range(MAX_REMEMBERED + 1):
        buffer.close(f"s{index}")
    buffer.push(block("s1"))
    assert buffer.num_sessions == 0
    buffer.push(block("s0"))
    assert buffer.num_sessions == 1
