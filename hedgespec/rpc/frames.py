"""One writer task per stream sends all items that became ready since its last write in one frame."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from hedgespec.rpc.channel import MAX_MESSAGE_BYTES
from hedgespec.rpc.v1 import replica_pb2 as pb

REPLY_OF = {
    "open": "opened",
    "draft": "drafted",
    "verify": "verdict",
    "observe": "score",
    "score_prompt": "prompt_scores",
}
"""The body of an item -> the body of the item that answers it, unless it is `error`; `close` has no answer."""

NOT_JOINABLE: tuple[object, str, int] = (None, "", 0)
"""(shared object, session id, call index) of a frame's last item, when no other drafter may be added to it."""


class FrameWriter:
    """Collects items, filled in place without a copy, in the frame that leaves next.

    write: sends one serialized frame; called only by the task of `run`. A caller with a deadline must not write itself:
    cancelling a write breaks the whole gRPC stream.
    """

    def __init__(self, write: Callable[[bytes], Awaitable[object]]) -> None:
        self._write = write
        self._frame = pb.Frame()
        self._wakeup: asyncio.Future[None] | None = None
        self._joinable = NOT_JOINABLE

    @property
    def num_waiting(self) -> int:
        """The number of items that have not been sent."""
        return len(self._frame.items)

    def add(
        self,
        session_id: str,
        call_index: int,
        drafter_id: str,
        body: str,
        fill: Callable[[Any], object],
        shared: object = None,
    ) -> None:
        """Add an item whose message `body` is written by `fill`; it leaves with the next frame unless `fill` raises.

        shared: drafters that are sent the same object in a row share one item
        """
        last, *at = self._joinable
        if shared is not None and last is shared and at == [session_id, call_index]:
            self._frame.items[-1].drafter_ids.append(drafter_id)
            return
        self._joinable = NOT_JOINABLE
        items = self._frame.items
        item = items.add()
        item.session_id = session_id
        item.call_index = call_index
        if drafter_id:
            item.drafter_ids.append(drafter_id)
        try:
            message = getattr(item, body)
            message.SetInParent()  # also where there is nothing to write
            fill(message)
        except BaseException:
            del items[-1]
            raise
        if shared is not None:
            self._joinable = (shared, session_id, call_index)
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    async def run(self) -> None:
        """Write until cancelled or until `write` raises."""
        loop = asyncio.get_running_loop()
        while True:
            if not self._frame.items:
                self._wakeup = loop.create_future()
                await self._wakeup
            frame, self._frame, self._joinable = self._frame, pb.Frame(), NOT_JOINABLE
            data = frame.SerializeToString()
            if len(data) <= MAX_MESSAGE_BYTES or len(frame.items) == 1:
                await self._write(data)
            else:
                for item in frame.items:
                    await self._write(pb.Frame(items=[item]).SerializeToString())
