"""Notice that the client has gone, and stop working for it at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

Result = TypeVar("Result")

CLIENT_GONE = 499
"""Status of a request whose client left; only metrics and logs see it."""


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
