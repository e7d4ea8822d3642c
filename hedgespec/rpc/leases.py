"""Which Serve leases are in use: a lease lasts as long as the session (target) or the stream (drafters) that came with it.

Serve does not end a streaming call whose caller was killed, but the gRPC stream breaks at once: so its end ends the lease.
"""

from __future__ import annotations

import asyncio
import uuid


class Leases:
    """attach_timeout_s: a lease that nothing comes for in time is given back."""

    def __init__(self, attach_timeout_s: float = 10.0) -> None:
        self._attach_timeout_s = attach_timeout_s
        self._attached: dict[str, asyncio.Event] = {}
        self._ended: dict[str, asyncio.Event] = {}

    @property
    def num_open(self) -> int:
        return len(self._ended)

    def grant(self) -> str:
        lease_id = uuid.uuid4().hex
        self._attached[lease_id] = asyncio.Event()
        self._ended[lease_id] = asyncio.Event()
        return lease_id

    async def wait_end(self, lease_id: str) -> None:
        """Return when whatever the lease belongs to has ended, or has not begun in time."""
        try:
            async with asyncio.timeout(self._attach_timeout_s):
                await self._attached[lease_id].wait()
        except TimeoutError:
            return
        await self._ended[lease_id].wait()

    def forget(self, lease_id: str) -> None:
        self._attached.pop(lease_id, None)
        self._ended.pop(lease_id, None)

    def attach(self, lease_id: str) -> None:
        """The session is here. A lease that is unknown or over is ignored: the engine still bounds its sessions."""
        if lease_id in self._attached:
            self._attached[lease_id].set()

    def end(self, lease_id: str) -> None:
        if lease_id in self._ended:
            self._attached[lease_id].set()
            self._ended[lease_id].set()
