"""Replicas of the target and of drafters: gRPC servers that routers lease through Ray Serve.

The target is leased once per request, so that Serve sees its load.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ray

from deployments.autoscaling import SESSIONS_STAT
from deployments.local_ray import LOOPBACK
from hedgespec.config import DrafterConfig, TargetConfig
from hedgespec.rpc.channel import TlsFiles
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


class TargetReplica(LeasedReplica):
    """The target model behind a gRPC server. A lease ends with the session that it was granted for."""

    async def __init__(self, config: TargetConfig) -> None:
        limit_threads(config.threads)
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


class DrafterReplica(LeasedReplica):
    """The drafters of one process behind a gRPC server. Each router holds one lease for as long as it is connected.

    configs: one drafter, or all of a group. target: the target whose tokens and features they use.
    """

    async def __init__(self, configs: tuple[DrafterConfig, ...], target: TargetConfig) -> None:
        limit_threads(max(config.threads for config in configs))
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


def own_host() -> str:
    """Return the address at which other replicas reach this process; loopback outside of Ray (local testing mode)."""
    return ray.util.get_node_ip_address() if ray.is_initialized() else LOOPBACK


def limit_threads(num_threads: int) -> None:
    """Limit the numeric libraries' threads. It only works before torch is imported, so replicas call it first."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(num_threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
