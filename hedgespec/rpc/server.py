"""The replica's end of the wire serves one Target and any number of Drafters through `Rounds` and `PushFeatures`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from hedgespec.errors import ConfigError, InvalidObservation
from hedgespec.protocols import Drafter, FeatureSink, Target
from hedgespec.rpc.channel import LEASE_METADATA_KEY, SERVER_OPTIONS, SERVICE, TlsFiles
from hedgespec.rpc.convert.arrays import read_features
from hedgespec.rpc.leases import Leases
from hedgespec.rpc.round_stream import RoundStream, Served
from hedgespec.rpc.v1 import replica_pb2 as pb

MAX_CONCURRENT_STREAMS = 1024


class ReplicaServicer:
    """The gRPC service of one replica.

    target: None on a drafter's replica. drafters: by id; those with a `push` method get the features sent to the replica
    leases: attached when the session (target) or the stream (drafters) of a lease begins, ended when it ends
    """

    def __init__(
        self, target: Target | None, drafters: Mapping[str, Drafter] | None = None, leases: Leases | None = None
    ) -> None:
        drafters = drafters or {}
        self.leases = leases or Leases()
        self._closing: set[asyncio.Task[None]] = set()
        self._served = Served(target, drafters, self.leases)
        self._sinks: list[FeatureSink] = [
            cast(FeatureSink, d) for d in drafters.values() if d.feature_sink and callable(getattr(d, "push", None))
        ]

    @property
    def num_sessions(self) -> int:
        """Open sessions; one that uses three drafters of this replica counts three times."""
        return len(self._served.owners)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the two methods with a server that has not started."""
        handlers = {
            "Rounds": grpc.stream_stream_rpc_method_handler(self.rounds),
            "PushFeatures": grpc.stream_unary_rpc_method_handler(self.push_features),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def rounds(self, _: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        """Serve one router's stream; its end closes its sessions. Only bytes that do not parse end it early."""
        metadata = dict(context.invocation_metadata() or ())
        lease_id = str(metadata.get(LEASE_METADATA_KEY, ""))
        stream = RoundStream(self._served, context)
        self.leases.attach(lease_id)
        try:
            await context.send_initial_metadata(())  # the router waits for this: the stream is accepted
            await stream.run()
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "bytes that are not a Frame")
        finally:
            # gRPC cancels this coroutine when the router goes, and may do so while it is cleaning up
            closing = asyncio.ensure_future(self._close(stream, lease_id))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            await asyncio.shield(closing)

    async def _close(self, stream: RoundStream, lease_id: str) -> None:
        try:
            await stream.close()
        finally:
            self.leases.end(lease_id)

    async def push_features(
        self, blocks: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> bytes:
        """Hand every block to all drafters here that use features. A malformed block ends the stream."""
        async for data in blocks:
            try:
                block = read_features(pb.FeatureBlock.FromString(data))
            except (DecodeError, InvalidObservation) as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"malformed feature block: {error}")
            for sink in self._sinks:
                sink.push(block)
        return pb.PushSummary().SerializeToString()


@dataclass(frozen=True, slots=True)
class ReplicaServer:
    """A running server. address: HOST:PORT at which routers and targets reach it."""

    address: str
    grpc_server: grpc.aio.Server
    health_servicer: health.HealthServicer

    async def stop(self, grace_s: float = 0.0) -> None:
        """Report unhealthy, let streams finish for grace_s seconds, then break them."""
        await self.health_servicer.enter_graceful_shutdown()
        await self.grpc_server.stop(grace_s)


async def start_server(
    servicer: ReplicaServicer, host: str = "127.0.0.1", port: int = 0, tls: TlsFiles | None = None
) -> ReplicaServer:
    """Serve, and report health; port 0 picks a free one. Raises ConfigError when the port cannot be bound."""
    server = grpc.aio.server(options=SERVER_OPTIONS, maximum_concurrent_rpcs=MAX_CONCURRENT_STREAMS)
    servicer.add_to(server)
    health_servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    wanted = f"{_bracketed(host)}:{port}"
    try:
        if tls is None:
            bound_port = server.add_insecure_port(wanted)
        else:
            bound_port = server.add_secure_port(wanted, tls.server_credentials())
    except RuntimeError as error:
        raise ConfigError(f"The replica cannot listen on {wanted}: {error}. Choose another port, or 0.") from error
    await server.start()
    for name in ("", SERVICE):
        await health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    return ReplicaServer(f"{_bracketed(host)}:{bound_port}", server, health_servicer)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
