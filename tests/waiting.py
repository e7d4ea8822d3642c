"""Tests wait here for what another task, thread or process will do; a slow machine makes a test slow, never red."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

WAIT_S = 30.0


async def eventually(condition: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
    """Return as soon as the condition holds; TimeoutError if it does not within `timeout_s`."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - any condition, not an event
            await asyncio.sleep(0.005)
