"""Serve leases that are in use: each lasts as long as the session (target) or the stream (drafters) that it was granted for.

Serve does not end a streaming call whose caller was killed, but the gRPC stream breaks at once, so its end ends the lease.
"""

from __future__ import annotations

import asyncio
import uuid


class Leases:
    """The open leases of one replica. attach_timeout_s: a lease that no session or stream uses within this time ends."""

    def __init__(self, attach_timeout_s: float = 10.0) -> None:
        self._attach_timeout_s = attach_timeout_s
        self._open: dict[str, tuple[asyncio.Event, asyncio.Event]] = {}  # id -> (attached, ended)

    @property
    def num_open(self) -> int:
        """The number of leases that have not been forgotten."""
        return len(self._open)

    def grant(self) -> str:
        """Return the id of a new lease."""
        lease_id = uuid.uuid4().hex
        self._open[lease_id] = asyncio.Event(), asyncio.Event()
        return lease_id

    async def wait_end(self, lease_id: str) -> None:
        """Return when the session or stream of the lease has ended, or has not begun in time."""
        attached, ended = self._open[lease_id]
        try:
            async with asyncio.timeout(self._attach_timeout_s):
                await attached.wait()
        except TimeoutError:
            return
        await ended.wait()

    def forget(self, lease_id: str) -> None:
        """Drop a lease after `wait_end`."""
        self._open.pop(lease_id, None)

    def attach(self, lease_id: str) -> None:
        """Mark the lease as used. An unknown or ended lease is ignored: the engine still bounds its sessions."""
        if lease_id in self._open:
            self._open[lease_id][0].set()

    def end(self, lease_id: str) -> None:
        """End the lease when its session or stream has ended."""
        for event in self._open.get(lease_id, ()):
            event.set()
