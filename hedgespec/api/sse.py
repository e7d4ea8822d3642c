"""Server-sent events are `data: JSON` and a blank line each; work for a client that has gone stops at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

Result = TypeVar("Result")

CLIENT_GONE = 499
"""Status of a request whose client left; only metrics and logs see it."""

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
SEND_TIMEOUT_S = 10.0
"""A client that does not read for this long is treated as gone: it holds a session on the target."""


class ClientGone(Exception):
    """The client closed its connection, so an answer would reach no one."""


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """Run work to its end, or cancel it and raise ClientGone when the client disconnects first."""
    task = asyncio.create_task(work)
    watcher = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        task.cancel()
        watcher.cancel()
        await asyncio.wait((task, watcher))


async def _disconnected(receive: Receive) -> None:
    """Return when the client is gone. The body must have been read to its end."""
    while (await receive())["type"] != "http.disconnect":
        pass


def encode_event(content: dict[str, Any]) -> bytes:
    # ASCII only: some clients split lines at U+2028 and U+0085, which JSON may hold unescaped.
    return b"data: " + json.dumps(content, separators=(",", ":")).encode("ascii") + b"\n\n"


class EventStream(Response):
    """Sends events as they come; when the last is sent or the client is gone, `work` is closed at once."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], work: AsyncExitStack) -> None:
        """events must end, not raise, when something goes wrong: the headers have been sent by then."""
        self.status_code = 200
        self.background = None
        self.init_headers({"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._events = events
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._work:
            with suppress(ClientGone, TimeoutError):
                await unless_gone(receive, self._send_all(send))

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._events) as events:
            async for event in events:
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
