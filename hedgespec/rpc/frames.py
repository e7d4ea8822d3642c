"""One writer task per stream sends all items that became ready since its last write in one frame."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from hedgespec.rpc.channel import MAX_MESSAGE_BYTES
from hedgespec.rpc.v1 import replica_pb2 as pb


class FrameWriter:
    """Collects items, filled in place without a copy, in the frame that leaves next.

    write: sends one serialized frame; called only by the task of `run`. A caller with a deadline must not write itself:
    cancelling a write breaks the whole gRPC stream.
    """

    def __init__(self, write: Callable[[bytes], Awaitable[object]]) -> None:
        self._write = write
        self._frame = pb.Frame()
        self._wakeup: asyncio.Future[None] | None = None
        # (body, session id, call index) of the last item, when another drafter may be added to it
        self._joinable: tuple[object, str, int] | None = None

    @property
    def num_waiting(self) -> int:
        """The number of items that have not been sent."""
        return len(self._frame.items)

    def add(self, session_id: str, call_index: int, drafter_id: str, fill: Callable[[pb.Item], object]) -> None:
        """Add an item with the body that `fill` writes; it leaves with the next frame unless `fill` raises."""
        self._joinable = None
        items = self._frame.items
        item = items.add()
        item.session_id = session_id
        item.call_index = call_index
        if drafter_id:
            item.drafter_ids.append(drafter_id)
        try:
            fill(item)
        except BaseException:
            del items[-1]
            raise
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def add_shared(
        self, session_id: str, call_index: int, drafter_id: str, body: object, fill: Callable[[pb.Item], object]
    ) -> None:
        """Add an item as `add` does; drafters that are sent the same `body` in a row share one item."""
        joinable = self._joinable
        if joinable is not None and joinable[0] is body and joinable[1] == session_id and joinable[2] == call_index:
            self._frame.items[-1].drafter_ids.append(drafter_id)
            return
        self.add(session_id, call_index, drafter_id, fill)
        self._joinable = (body, session_id, call_index)

    async def run(self) -> None:
        """Write until cancelled or until `write` raises."""
        loop = asyncio.get_running_loop()
        while True:
            if not self._frame.items:
                self._wakeup = loop.create_future()
                await self._wakeup
            frame, self._frame, self._joinable = self._frame, pb.Frame(), None
            data = frame.SerializeToString()
            if len(data) <= MAX_MESSAGE_BYTES or len(frame.items) == 1:
                await self._write(data)
            else:
                for item in frame.items:
                    await self._write(pb.Frame(items=[item]).SerializeToString())
