"""One writer at a time per stream: whatever became ready during a write leaves in one frame after it."""

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

    write: sends one serialized frame
    """

    def __init__(self, write: Callable[[bytes], Awaitable[object]]) -> None:
        self._write = write
        self._frame = pb.Frame()
        self._is_writing = False
        self._wakeup: asyncio.Future[None] | None = None

    @property
    def num_waiting(self) -> int:
        return len(self._frame.items)

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

    async def flush(self) -> None:
        """Write everything there is. While another task is writing, that one takes the rest along.

        Cancelling a task that is inside a write breaks the gRPC stream: tasks with deadlines leave writing to `run`.
        """
        if self._is_writing:
            return
        self._is_writing = True
        try:
            while self._frame.items:
                frame, self._frame = self._frame, pb.Frame()
                for data in _split(frame):
                    await self._write(data)
        finally:
            self._is_writing = False

    async def run(self) -> None:
        """Flush whenever there is something, until cancelled or until a write raises."""
        loop = asyncio.get_running_loop()
        while True:
            if not self._frame.items:
                self._wakeup = loop.create_future()
                await self._wakeup
            await self.flush()


def _split(frame: pb.Frame) -> list[bytes]:
    """The frame in one message, or one per item when that would exceed the peer's cap."""
    data = frame.SerializeToString()
    if len(data) <= MAX_MESSAGE_BYTES or len(frame.items) == 1:
        return [data]
    return [pb.Frame(items=[item]).SerializeToString() for item in frame.items]
