"""A replica's gRPC server offers the service itself and the standard health service."""

from __future__ import annotations

from dataclasses import dataclass

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from hedgespec.errors import ConfigError
from hedgespec.rpc.channel import SERVER_OPTIONS, SERVICE, TlsFiles
from hedgespec.rpc.servicer import ReplicaServicer

MAX_CONCURRENT_STREAMS = 1024


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
    """Bind and serve; port 0 picks a free one. Raises ConfigError when the port cannot be bound."""
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
