"""Items that are ready at the same time leave in one message, and no message is above the peer's cap."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hedgespec.rpc.channel import MAX_MESSAGE_BYTES
from hedgespec.rpc.frames import FrameWriter
from hedgespec.rpc.v1 import replica_pb2 as pb


@asynccontextmanager
async def running_writer() -> AsyncIterator[tuple[FrameWriter, list[pb.Frame]]]:
    frames: list[pb.Frame] = []

    async def write(data: bytes) -> None:
        assert len(data) <= MAX_MESSAGE_BYTES
        frames.append(pb.Frame.FromString(data))
        await asyncio.sleep(0)

    writer = FrameWriter(write)
    task = asyncio.ensure_future(writer.run())
    await asyncio.sleep(0)
    yield writer, frames
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def fill_nothing(message: object) -> None:
    """The body is there all the same."""


def fill_half(message: pb.Open) -> None:
    message.cache_salt = "half filled"
    raise ValueError("half")


async def test_items_added_in_one_turn_of_the_loop_leave_in_one_frame() -> None:
    async with running_writer() as (writer, frames):
        for call_index in range(5):
            writer.add("s", call_index, "code", "draft", fill_nothing)
        await asyncio.sleep(0.01)
    assert [item.call_index for frame in frames for item in frame.items] == [0, 1, 2, 3, 4]
    assert len(frames) == 1


async def test_an_item_that_cannot_be_filled_does_not_leave() -> None:
    async with running_writer() as (writer, frames):
        with pytest.raises(ValueError, match="half"):
            writer.add("bad", 0, "", "open", fill_half)
        writer.add("good", 0, "", "close", fill_nothing)
        await asyncio.sleep(0.01)
    assert [item.session_id for frame in frames for item in frame.items] == ["good"]


async def test_a_frame_above_the_cap_is_cut_into_items() -> None:
    half_a_message = pb.Verdict(target_probs=bytes(MAX_MESSAGE_BYTES // 2))
    async with running_writer() as (writer, frames):
        for name in ("a", "b", "c"):
            writer.add(name, 0, "", "verdict", lambda verdict: verdict.MergeFrom(half_a_message))
        await asyncio.sleep(0.01)
    assert [[item.session_id for item in frame.items] for frame in frames] == [["a"], ["b"], ["c"]]


async def test_recipients_of_one_body_share_an_item_within_a_frame() -> None:
    """An item is shared only directly after each other, for the same session and round, and never in a frame that has
    already left."""
    first, second = object(), object()

    def fill(message: pb.Observe) -> None:
        message.start = 7

    async with running_writer() as (writer, frames):
        writer.add("s", 1, "a", "observe", fill, first)
        writer.add("s", 1, "b", "observe", fill, first)
        writer.add("t", 1, "a", "observe", fill, first)
        writer.add("s", 1, "c", "observe", fill, second)
        writer.add("s", 2, "c", "draft", fill_nothing)
        writer.add("s", 1, "d", "observe", fill, second)
        await asyncio.sleep(0.01)
        writer.add("s", 1, "e", "observe", fill, second)
        await asyncio.sleep(0.01)
    sent = [[(item.session_id, item.WhichOneof("body"), list(item.drafter_ids)) for item in f.items] for f in frames]
    assert sent == [
        [
            ("s", "observe", ["a", "b"]),
            ("t", "observe", ["a"]),
            ("s", "observe", ["c"]),
            ("s", "draft", ["c"]),
            ("s", "observe", ["d"]),
        ],
        [("s", "observe", ["e"])],
    ]
    assert all(item.observe.start == 7 for f in frames for item in f.items if item.HasField("observe"))
