"""A connection is one multiplexed `Rounds` stream to one replica, shared by all of the router's sessions.

It is used once: when its stream breaks, every waiting call gets ReplicaLost and the owner makes a new connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import grpc.aio

from hedgespec.errors import ReplicaLost
from hedgespec.rpc.channel import LEASE_METADATA_KEY, ROUNDS_METHOD, TlsFiles, open_channel
from hedgespec.rpc.faults import read_error
from hedgespec.rpc.frames import REPLY_OF, FrameWriter
from hedgespec.rpc.v1 import replica_pb2 as pb

CONNECT_TIMEOUT_S = 5.0

_REQUEST_OF_REPLY = {reply: name for name, reply in REPLY_OF.items()}
_REQUEST_OF_NUMBER = {pb.Item.DESCRIPTOR.fields_by_name[name].number: name for name in REPLY_OF}

Noun = TypeVar("Noun")

Key = tuple[str, int, str, str]
"""What a reply is matched by: (session id, call index, drafter id, name of the request)."""


class ReplicaConnection:
    """One stream to the replica at `address` (HOST:PORT). Make it inside the event loop that uses it.

    lease_id: the Serve lease that lasts as long as this stream, if any
    """

    def __init__(self, address: str, tls: TlsFiles | None = None, lease_id: str = "") -> None:
        self.address = address
        self._channel = open_channel(address, tls)
        self._call: grpc.aio.StreamStreamCall[bytes, bytes] = self._channel.stream_stream(ROUNDS_METHOD)(
            metadata=((LEASE_METADATA_KEY, lease_id),)
        )
        self._writer = FrameWriter(self._call.write)
        self._waiters: dict[Key, Reply[Any]] = {}
        self._lost: ReplicaLost | None = None
        self._stream: asyncio.Task[None] | None = None

    async def connect(self, timeout_s: float = CONNECT_TIMEOUT_S) -> ReplicaConnection:
        """Wait until the replica has accepted the stream. Raises ReplicaLost; the connection is closed then."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._call.wait_for_connection()
        except (TimeoutError, grpc.aio.AioRpcError) as error:
            await self.close()
            raise ReplicaLost(f"No replica answers at {self.address} ({_describe(error)}).") from error
        except BaseException:
            await self.close()
            raise
        self._stream = asyncio.ensure_future(self._run())
        return self

    async def __aenter__(self) -> ReplicaConnection:
        return await self.connect()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def is_alive(self) -> bool:
        """Whether the stream is connected."""
        return self._stream is not None and self._lost is None

    @property
    def num_waiting(self) -> int:
        """The number of calls without a reply so far."""
        return len(self._waiters)

    async def wait_lost(self) -> ReplicaLost:
        """Return the cause as soon as the stream is over."""
        if self._stream is not None:
            await asyncio.wait([self._stream])
        return self._lost or self._lose("never connected")

    def request(
        self,
        session_id: str,
        call_index: int,
        drafter_id: str,
        name: str,
        fill: Callable[[Any], object],
        read: Callable[[Any], Noun],
        shared: object = None,
    ) -> Reply[Noun]:
        """Send a request, in the order of calls, and return the future reply.

        fill: writes the message `name` of the item; read: makes the result of the reply's message
        shared: calls in a row with the same object have the same body, which travels once for all their drafters
        The future raises what the replica raised, what `read` raises, or ReplicaLost.
        """
        key = (session_id, call_index, drafter_id, name)
        reply = Reply(self._waiters, key, read)
        try:
            if not self.is_alive:
                raise ReplicaLost(str(self._lost or f"Not connected to {self.address}."))
            if key in self._waiters:
                raise RuntimeError(
                    f"{name} {call_index} of session {session_id} is still unanswered; give each call its own call_index."
                )
            self._writer.add(session_id, call_index, drafter_id, name, fill, shared)
        except Exception as error:
            reply.set_exception(error)
        else:
            self._waiters[key] = reply
        return reply

    def send_close(self, session_id: str, drafter_id: str) -> None:
        """Free the session. Never fails: the end of the stream frees it too."""
        if self.is_alive:
            self._writer.add(session_id, 0, drafter_id, "close", lambda message: None)

    async def close(self) -> None:
        """End the stream: the replica closes all sessions that were opened on it."""
        self._lose("closed by this side")
        if self._stream is not None:
            self._stream.cancel()
            await asyncio.wait([self._stream])
        self._call.cancel()
        await self._channel.close()

    async def _run(self) -> None:
        writer = asyncio.ensure_future(self._writer.run())
        reader = asyncio.ensure_future(self._read())
        cause: object = "stream ended"
        try:
            await asyncio.wait([writer, reader], return_when=asyncio.FIRST_COMPLETED)
            failed = [task.exception() for task in (reader, writer) if task.done()]
            cause = next((error for error in failed if error is not None), cause)
        finally:
            self._lose(_describe(cause))
            for task in (writer, reader):
                task.cancel()
            await asyncio.gather(writer, reader, return_exceptions=True)
            self._call.cancel()
            await self._channel.close()

    async def _read(self) -> None:
        read, parse = self._call.read, pb.Frame.FromString
        while (data := await read()) is not grpc.aio.EOF:
            for item in parse(data).items:
                self._dispatch(item)

    def _dispatch(self, item: pb.Item) -> None:
        body = item.WhichOneof("body") or ""
        is_error = body == "error"
        name = _REQUEST_OF_NUMBER.get(item.error.in_reply_to) if is_error else _REQUEST_OF_REPLY.get(body)
        drafter_id = item.drafter_ids[0] if item.drafter_ids else ""
        waiter = self._waiters.pop((item.session_id, item.call_index, drafter_id, name or ""), None)
        if waiter is None or waiter.done():
            return  # a late reply: its caller has given up
        try:
            if is_error:
                raise read_error(item.error, self.address)
            waiter.set_result(waiter.read(getattr(item, body)))
        except Exception as error:
            waiter.set_exception(error)

    def _lose(self, cause: str) -> ReplicaLost:
        if self._lost is None:
            self._lost = ReplicaLost(f"The stream to {self.address} is over: {cause}.")
        waiters = list(self._waiters.values())
        self._waiters.clear()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(ReplicaLost(str(self._lost)))
                # a reply that is not awaited any more must not log "exception was never retrieved"
                with contextlib.suppress(Exception):
                    waiter.exception()
        return self._lost


class Reply(asyncio.Future[Noun], Generic[Noun]):
    """The future result of one request. It has no task and no coroutine, since there are many per round.

    Cancelling it gives up the call; a late reply is then dropped.
    """

    def __init__(self, waiters: dict[Key, Reply[Any]], key: Key, read: Callable[[Any], Noun]) -> None:
        super().__init__()
        self.read = read
        self._waiters = waiters
        self._key = key

    def cancel(self, msg: Any | None = None) -> bool:
        if self._waiters.get(self._key) is self:
            del self._waiters[self._key]
        return super().cancel(msg)


def _describe(cause: object) -> str:
    if isinstance(cause, grpc.aio.AioRpcError):
        return f"{cause.code().name}: {cause.details()}"
    if isinstance(cause, TimeoutError):
        return "timed out"
    return str(cause) or type(cause).__name__
