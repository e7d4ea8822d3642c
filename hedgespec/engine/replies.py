"""From an engine's thread to an event loop: the awaitable that a caller of an engine gets. No torch.

`asyncio.wrap_future` does the same with two futures and four callbacks per answer; there are several answers per round, and
while the event loop is busy with them no other thread can begin.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any


def reply_of(work: Future[Any]) -> asyncio.Future[Any]:
    """Cancelling it cancels work that has not started."""
    reply = reply_in_any_case(work)
    reply.add_done_callback(partial(_give_up, work))
    return reply


def reply_in_any_case(work: Future[Any]) -> asyncio.Future[Any]:
    """For work that is done even when the caller goes; its failure then concerns nobody, and is not reported."""
    loop = asyncio.get_running_loop()
    reply: asyncio.Future[Any] = loop.create_future()
    work.add_done_callback(partial(_arrived, loop, reply))
    return reply


def _arrived(loop: asyncio.AbstractEventLoop, reply: asyncio.Future[Any], work: Future[Any]) -> None:
    """In the thread that resolved the work."""
    with suppress(RuntimeError):  # the loop has been closed: nobody waits
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
