"""One writer per stream: whatever became ready since the last write leaves in one frame."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hedgespec.rpc.channel import MAX_MESSAGE_BYTES
from hedgespec.rpc.v1 import replica_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator


class FrameWriter:
    """Items are filled in place (no copy) into the frame that leaves next.

    write: sends one serialized frame; called by one task only
    """

    def __init__(self, write: Callable[[bytes], Awaitable[object]]) -> None:
        self._write = write
        self._frame = pb.Frame()
        self._wakeup: asyncio.Future[None] | None = None

    @contextmanager
    def item(self, session_id: str, round_id: int, drafter_id: str) -> Iterator[pb.Item]:
        """An item to fill; it leaves with the next frame unless filling it raises."""
        items = self._frame.items
        item = items.add()
        item.session_id = session_id
        item.round_id = round_id
        if drafter_id:
            item.drafter_ids.append(drafter_id)
        try:
            yield item
        except BaseException:
            del items[-1]
            raise
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    async def run(self) -> None:
        """Write until cancelled or until `write` raises."""
        loop = asyncio.get_running_loop()
        while True:
            if not self._frame.items:
                self._wakeup = loop.create_future()
                await self._wakeup
            frame, self._frame = self._frame, pb.Frame()
            for data in _split(frame):
                await self._write(data)


def _split(frame: pb.Frame) -> list[bytes]:
    """The frame in one message, or one per item when that would exceed the peer's cap."""
    data = frame.SerializeToString()
    if len(data) <= MAX_MESSAGE_BYTES or len(frame.items) == 1:
        return [data]
    return [pb.Frame(items=[item]).SerializeToString() for item in frame.items]
