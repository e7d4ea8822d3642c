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
        self._attached: dict[str, asyncio.Event] = {}
        self._ended: dict[str, asyncio.Event] = {}

    @property
    def num_open(self) -> int:
        """The number of leases that have not been forgotten."""
        return len(self._ended)

    def grant(self) -> str:
        """Return the id of a new lease."""
        lease_id = uuid.uuid4().hex
        self._attached[lease_id] = asyncio.Event()
        self._ended[lease_id] = asyncio.Event()
        return lease_id

    async def wait_end(self, lease_id: str) -> None:
        """Return when the session or stream of the lease has ended, or has not begun in time."""
        try:
            async with asyncio.timeout(self._attach_timeout_s):
                await self._attached[lease_id].wait()
        except TimeoutError:
            return
        await self._ended[lease_id].wait()

    def forget(self, lease_id: str) -> None:
        """Drop a lease after `wait_end`."""
        self._attached.pop(lease_id, None)
        self._ended.pop(lease_id, None)

    def attach(self, lease_id: str) -> None:
        """Mark the lease as used. An unknown or ended lease is ignored: the engine still bounds its sessions."""
        if lease_id in self._attached:
            self._attached[lease_id].set()

    def end(self, lease_id: str) -> None:
        """End the lease when its session or stream has ended."""
        if lease_id in self._ended:
            self._attached[lease_id].set()
            self._ended[lease_id].set()
