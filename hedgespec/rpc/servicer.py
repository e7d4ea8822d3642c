"""The replica's end of the wire serves one Target and any number of Drafters through `Rounds` and `PushFeatures`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from hedgespec.errors import InvalidObservation
from hedgespec.protocols import Drafter, FeatureSink, Target
from hedgespec.rpc.channel import LEASE_METADATA_KEY, SERVICE
from hedgespec.rpc.convert import feature_blocks
from hedgespec.rpc.leases import Leases
from hedgespec.rpc.round_stream import RoundStream, Served
from hedgespec.rpc.v1 import replica_pb2 as pb


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
                block = feature_blocks.read_features(pb.FeatureBlock.FromString(data))
            except (DecodeError, InvalidObservation) as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"malformed feature block: {error}")
            for sink in self._sinks:
                sink.push(block)
        return pb.PushSummary().SerializeToString()
