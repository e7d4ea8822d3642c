"""One replica of a drafter, or of a group of drafters that share a process."""

from __future__ import annotations

import asyncio

from deployments.autoscaling import SESSIONS_STAT
from deployments.leased_replica import DrafterOffer, LeasedReplica
from deployments.process import limit_threads, own_host
from hedgespec.config import DrafterConfig, TargetConfig
from hedgespec.rpc.channel import TlsFiles
from hedgespec.rpc.leases import Leases


class DrafterReplica(LeasedReplica):
    """The drafters of one process behind a gRPC server. Each router holds one lease for as long as it is connected.

    configs: one drafter, or all of a group. target: the target whose tokens and features they use.
    """

    async def __init__(self, configs: tuple[DrafterConfig, ...], target: TargetConfig) -> None:
        limit_threads(max(config.num_threads for config in configs))
        from hedgespec.assembly.model_sources import open_drafters
        from hedgespec.rpc.server import ReplicaServicer, start_server

        drafters = await asyncio.to_thread(open_drafters, configs, target)
        self._leases = Leases()
        self._servicer = ReplicaServicer(None, drafters, self._leases)
        self._server = await start_server(self._servicer, own_host(), configs[0].port, TlsFiles.from_environment())
        self._offers = tuple(DrafterOffer(d.drafter_id, d.digest, bool(d.feature_sink)) for d in drafters.values())

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Tell Serve the number of open sessions, by which drafters scale."""
        return {SESSIONS_STAT: float(self._servicer.num_sessions)}

    async def __del__(self) -> None:
        await self._server.stop()
