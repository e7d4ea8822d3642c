"""The zoo behind real gRPC in one process: every model has its own server, features travel from target to drafters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from hedgespec.assembly.local_service import LocalFleet, LocalService
from hedgespec.assembly.model_sources import (
    load_tokenizer,
    open_drafters,
    open_target,
    resolved_target,
    target_identity,
)
from hedgespec.config import AppArgs
from hedgespec.router.events import NoEvents
from hedgespec.router.service import GenerationService
from hedgespec.rpc.client import RemoteDrafter, RemoteTarget
from hedgespec.rpc.connection import ReplicaConnection
from hedgespec.rpc.feature_push import GrpcFeatureTransport
from hedgespec.rpc.server import ReplicaServicer, start_server
from hedgespec.store.memory_store import MemoryStore
from hedgespec.store.preferences import Preferences


@asynccontextmanager
async def grpc_service(args: AppArgs) -> AsyncIterator[LocalService]:
    """Like `local_service`, with gRPC between the router and every model."""
    async with AsyncExitStack() as stack:
        transport = GrpcFeatureTransport()
        stack.push_async_callback(transport.close)
        target = await asyncio.to_thread(open_target, args.target, transport)
        drafters = await asyncio.to_thread(open_drafters, args.drafters, args.target)
        servers = [await start_server(ReplicaServicer(target))]
        servers += [await start_server(ReplicaServicer(None, {d.drafter_id: d})) for d in drafters.values()]
        for server in servers:
            stack.push_async_callback(server.stop)
        connections = [await stack.enter_async_context(ReplicaConnection(server.address)) for server in servers]
        remote = {
            drafter.drafter_id: RemoteDrafter(
                connection, drafter.drafter_id, server.address if drafter.feature_sink else "", drafter.digest
            )
            for drafter, server, connection in zip(drafters.values(), servers[1:], connections[1:], strict=True)
        }
        fleet = LocalFleet(RemoteTarget(connections[0]), remote, args.target.max_sessions, 30.0)
        preferences = Preferences(MemoryStore(), args.store)
        tokenizer = load_tokenizer(args.target)
        identity = target_identity(args.target)
        service = GenerationService(args, fleet, tokenizer, preferences, NoEvents(), identity)
        yield LocalService(service, tokenizer, Path(resolved_target(args.target).model), fleet, identity)
        await service.drain()
        await preferences.close()
        for model in (target, *drafters.values()):
            await asyncio.to_thread(model.stop)
