"""One replica of a drafter, or of a group of drafters that share a process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from deployments.autoscaling import SESSIONS_STAT
from deployments.offer import DrafterOffer, Offer
from deployments.process import limit_threads, own_host
from hedgespec.config import DrafterConfig, TargetConfig
from hedgespec.rpc.channel import TlsFiles
from hedgespec.rpc.leases import Leases


class DrafterReplica:
    """configs: one, or all of a group. target: whose tokens and features they work on."""

    async def __init__(self, configs: tuple[DrafterConfig, ...], target: TargetConfig) -> None:
        limit_threads(max(config.num_threads for config in configs))
        from hedgespec.assembly.model_sources import open_drafters
        from hedgespec.rpc.server import start_server
        from hedgespec.rpc.servicer import ReplicaServicer

        drafters = await asyncio.to_thread(open_drafters, configs, target)
        self._leases = Leases()
        self._servicer = ReplicaServicer(None, drafters, self._leases)
        self._server = await start_server(self._servicer, own_host(), configs[0].port, TlsFiles.from_environment())
        self._offers = tuple(DrafterOffer(d.drafter_id, d.digest, bool(d.feature_sink)) for d in drafters.values())

    async def lease(self) -> AsyncIterator[Offer]:
        """One call per router, open as long as that router's stream: Serve spreads the routers over the replicas."""
        lease_id = self._leases.grant()
        try:
            yield Offer(self._server.address, lease_id, self._offers)
            await self._leases.wait_end(lease_id)
        finally:
            self._leases.forget(lease_id)

    def record_autoscaling_stats(self) -> dict[str, float]:
        return {SESSIONS_STAT: float(self._servicer.num_sessions)}

    async def check_health(self) -> None:
        """Runs on the event loop that serves gRPC: a blocked loop is an unhealthy replica."""
        await asyncio.sleep(0)

    def record_replica_metadata(self) -> dict[str, str]:
        return {"grpc": self._server.address}

    async def __del__(self) -> None:
        await self._server.stop()
