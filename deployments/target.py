"""One replica of the target: the engine behind a gRPC server, and leases that let Serve see its load."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from deployments.offer import Offer
from deployments.process import limit_threads, own_host
from hedgespec.config import TargetConfig
from hedgespec.rpc.channel import TlsFiles
from hedgespec.rpc.leases import Leases


class TargetReplica:
    async def __init__(self, config: TargetConfig) -> None:
        limit_threads(config.num_threads)
        from hedgespec.assembly.model_sources import open_target
        from hedgespec.rpc.feature_push import GrpcFeatureTransport
        from hedgespec.rpc.server import start_server
        from hedgespec.rpc.servicer import ReplicaServicer

        tls = TlsFiles.from_environment()
        self._transport = GrpcFeatureTransport(tls)
        self._target = await asyncio.to_thread(open_target, config, self._transport)
        self._leases = Leases()
        self._server = await start_server(
            ReplicaServicer(self._target, leases=self._leases), own_host(), config.port, tls
        )

    async def lease(self) -> AsyncIterator[Offer]:
        """Serve counts this call as one ongoing request; it ends when the leased session ends."""
        lease_id = self._leases.grant()
        try:
            yield Offer(self._server.address, lease_id)
            await self._leases.wait_end(lease_id)
        finally:
            self._leases.forget(lease_id)

    async def check_health(self) -> None:
        """Runs on the event loop that serves gRPC: a blocked loop is an unhealthy replica."""
        await asyncio.sleep(0)

    def record_replica_metadata(self) -> dict[str, str]:
        return {"grpc": self._server.address}

    async def __del__(self) -> None:
        await self._server.stop(grace_s=1.0)
        await self._transport.close()
