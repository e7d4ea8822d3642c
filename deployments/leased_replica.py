"""A replica that routers lease through Ray Serve and then reach over gRPC: the common part of target and drafters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hedgespec.rpc.leases import Leases

if TYPE_CHECKING:
    from hedgespec.rpc.server import ReplicaServer


@dataclass(frozen=True, slots=True)
class DrafterOffer:
    """One drafter of a replica. digest: of its weights; uses_features: the target must push hidden features to it."""

    drafter_id: str
    digest: str
    uses_features: bool


@dataclass(frozen=True, slots=True)
class Offer:
    """The answer of a replica to a router that leases it.

    address: HOST:PORT of the replica's gRPC server. drafters: empty on a target.
    """

    address: str
    lease_id: str
    drafters: tuple[DrafterOffer, ...] = ()


class LeasedReplica:
    """A Serve replica with a gRPC server. A subclass starts `_server` with `_leases`, in its constructor."""

    _server: ReplicaServer
    _leases: Leases
    _offers: tuple[DrafterOffer, ...] = ()

    async def lease(self) -> AsyncIterator[Offer]:
        """Yield an offer and stay open until the lease ends: Serve counts the open call as one ongoing request."""
        lease_id = self._leases.grant()
        try:
            yield Offer(self._server.address, lease_id, self._offers)
            await self._leases.wait_end(lease_id)
        finally:
            self._leases.forget(lease_id)

    async def check_health(self) -> None:
        """Succeed when the event loop that serves gRPC gets to this call: a blocked loop is an unhealthy replica."""
        await asyncio.sleep(0)

    def record_replica_metadata(self) -> dict[str, str]:
        """Tell Serve the address of the gRPC server."""
        return {"grpc": self._server.address}
