"""An engine's caller awaits a future of its event loop that the engine's thread resolves. No torch.

`asyncio.wrap_future` does the same with two futures and four callbacks per answer; there are several answers per round, and
while the event loop is busy with them no other thread can run.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any


def reply_of(work: Future[Any]) -> asyncio.Future[Any]:
    """Return the awaitable result; cancelling it cancels work that has not started."""
    reply = reply_in_any_case(work)
    reply.add_done_callback(partial(_give_up, work))
    return reply


def reply_in_any_case(work: Future[Any]) -> asyncio.Future[Any]:
    """Return the awaitable result of work that is done even when it is cancelled; a failure is then not reported."""
    loop = asyncio.get_running_loop()
    reply: asyncio.Future[Any] = loop.create_future()
    work.add_done_callback(partial(_arrived, loop, reply))
    return reply


def _arrived(loop: asyncio.AbstractEventLoop, reply: asyncio.Future[Any], work: Future[Any]) -> None:
    """Runs in the thread that resolved the work."""
    with suppress(RuntimeError):  # the loop has been closed
        loop.call_soon_threadsafe(_deliver, reply, work)


def _deliver(reply: asyncio.Future[Any], work: Future[Any]) -> None:
    if reply.done():
        return
    if work.cancelled():
        reply.cancel()
        return
    error = work.exception()
    if error is None:
        reply.set_result(work.result())
    else:
        reply.set_exception(error)


def _give_up(work: Future[Any], reply: asyncio.Future[Any]) -> None:
    if reply.cancelled():
        work.cancel()
