"""Server-sent events are `data: JSON` and a blank line each, and `data: [DONE]` after a complete answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hedgespec.api.disconnect import ClientGone, unless_gone

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
SEND_TIMEOUT_S = 10.0
"""A client that does not read for this long is treated as gone: it holds a session on the target."""


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
