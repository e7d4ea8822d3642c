"""The target pushes hidden features to the drafters' replicas, over one client stream per address, without waiting.

`push` may be called from the engine's thread. A block is dropped when the queue is full or the receiver is away: the drafter
then has a hole, which costs acceptance and never correctness.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Iterator

import grpc.aio
import structlog

from hedgespec.rpc.channel import PUSH_FEATURES_METHOD, TlsFiles, open_channel
from hedgespec.rpc.convert.arrays import write_features
from hedgespec.types import FeatureBlock

log = structlog.get_logger(__name__)

MAX_QUEUED_BYTES = 64 << 20
CHUNK_BYTES = 512 << 10
"""Blocks are cut into messages of this size: throughput over one stream is best between 64 KB and 1 MB."""

RETRY_S = 0.5
IDLE_S = 60.0


class GrpcFeatureTransport:
    """The `FeatureTransport` for addresses HOST:PORT. Make it inside the event loop that sends."""

    def __init__(self, tls: TlsFiles | None = None, max_queued_bytes: int = MAX_QUEUED_BYTES) -> None:
        self._tls = tls
        self._max_queued_bytes = max_queued_bytes
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._sinks: dict[str, GrpcFeatureSink] = {}

    def sink(self, address: str) -> GrpcFeatureSink:
        """Return the one sink for that address, made on first use; may be called from any thread."""
        with self._lock:
            sink = self._sinks.get(address)
            if sink is None:
                sink = self._sinks[address] = GrpcFeatureSink(address, self._tls, self._max_queued_bytes, self._loop)
            return sink

    async def close(self) -> None:
        with self._lock:
            sinks = list(self._sinks.values())
        await asyncio.gather(*(sink.close() for sink in sinks))


class GrpcFeatureSink:
    """Queues feature blocks for one address and sends them in a background task."""

    def __init__(
        self, address: str, tls: TlsFiles | None, max_queued_bytes: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.address = address
        self._tls = tls
        self._max_queued_bytes = max_queued_bytes
        self._loop = loop
        self._lock = threading.Lock()
        self._queue: deque[FeatureBlock] = deque()
        self._queued_bytes = 0
        self._is_closed = False
        self._wakeup = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None

    def push(self, block: FeatureBlock) -> None:
        size_bytes = block.rows.nbytes
        with self._lock:
            if self._is_closed or self._queued_bytes + size_bytes > self._max_queued_bytes:
                return
            self._queue.append(block)
            self._queued_bytes += size_bytes
            is_first = len(self._queue) == 1
        if is_first:
            # the loop is closing: the block is dropped
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake)

    async def close(self) -> None:
        with self._lock:
            self._is_closed = True
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
        self._drop_queued()

    def _wake(self) -> None:
        self._wakeup.set()
        if self._sender is None or self._sender.done():
            self._sender = asyncio.ensure_future(self._send_until_idle())

    async def _send_until_idle(self) -> None:
        while self._queue:
            try:
                await self._send_on_one_channel()
            except Exception as error:  # gRPC raises several unrelated types for a stream that is over
                log.warning("features_dropped", address=self.address, error=_cause(error))
                await asyncio.sleep(RETRY_S)
                self._drop_queued()

    async def _send_on_one_channel(self) -> None:
        """Send until no block has come for IDLE_S seconds."""
        channel = open_channel(self.address, self._tls)
        try:
            call: grpc.aio.StreamUnaryCall[bytes, bytes] = channel.stream_unary(PUSH_FEATURES_METHOD)()
            while True:
                self._wakeup.clear()
                while (block := self._next()) is not None:
                    for part in _chunks(block):
                        await call.write(write_features(part).SerializeToString())
                try:
                    async with asyncio.timeout(IDLE_S):
                        await self._wakeup.wait()
                except TimeoutError:
                    return
        finally:
            await channel.close()

    def _next(self) -> FeatureBlock | None:
        with self._lock:
            if not self._queue:
                return None
            block = self._queue.popleft()
            self._queued_bytes -= block.rows.nbytes
            return block

    def _drop_queued(self) -> None:
        with self._lock:
            self._queue.clear()
            self._queued_bytes = 0


def _chunks(block: FeatureBlock) -> Iterator[FeatureBlock]:
    rows_per_chunk = max(1, CHUNK_BYTES // max(1, block.rows[:1].nbytes))
    for start in range(0, len(block.rows), rows_per_chunk):
        rows = block.rows[start : start + rows_per_chunk]
        yield FeatureBlock(block.session_id, block.start_position + start, rows)


def _cause(error: Exception) -> str:
    return error.code().name if isinstance(error, grpc.aio.AioRpcError) else type(error).__name__
