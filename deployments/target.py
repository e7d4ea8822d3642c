"""One replica of the target: the engine behind a gRPC server, leased once per request so that Serve sees its load."""

from __future__ import annotations

import asyncio

from deployments.leased_replica import LeasedReplica
from deployments.process import limit_threads, own_host
from hedgespec.config import TargetConfig
from hedgespec.rpc.channel import TlsFiles
from hedgespec.rpc.leases import Leases


class TargetReplica(LeasedReplica):
    """The target model behind a gRPC server. A lease ends with the session that it was granted for."""

    async def __init__(self, config: TargetConfig) -> None:
        limit_threads(config.num_threads)
        from hedgespec.assembly.model_sources import open_target
        from hedgespec.rpc.feature_push import GrpcFeatureTransport
        from hedgespec.rpc.server import ReplicaServicer, start_server

        tls = TlsFiles.from_environment()
        self._transport = GrpcFeatureTransport(tls)
        target = await asyncio.to_thread(open_target, config, self._transport)
        self._leases = Leases()
        self._server = await start_server(ReplicaServicer(target, leases=self._leases), own_host(), config.port, tls)

    async def __del__(self) -> None:
        await self._server.stop(grace_s=1.0)
        await self._transport.close()
