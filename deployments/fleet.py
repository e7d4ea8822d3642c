"""The replicas that a router can use: found and leased through Ray Serve, reached over gRPC."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import structlog

from deployments.replicas import DrafterOffer, Offer
from hedgespec.errors import TargetUnavailable
from hedgespec.protocols import Drafter, Target
from hedgespec.rpc.channel import TlsFiles
from hedgespec.rpc.client import RemoteDrafter, RemoteTarget
from hedgespec.rpc.connection import ReplicaConnection

log = structlog.get_logger(__name__)

LEASE_ATTEMPT_S = 5.0
"""A lease that takes longer is requested again: Serve may have chosen a replica that hangs."""

FIRST_RETRY_S, MAX_RETRY_S = 0.1, 2.0
LEASE_DRAIN_S = 5.0


class LeaseCall(Protocol):
    """A streaming Serve call: its first item is the offer, and it ends with the lease."""

    def __anext__(self) -> object: ...

    def cancel(self) -> None: ...


class Leasing(Protocol):
    """A deployment whose replicas can be leased: `router.ServeLeasing` over a Serve handle, or a list of offers in tests."""

    def lease(self) -> LeaseCall:
        """Call a replica's `lease`."""
        ...


class ServeFleet:
    """Implements `protocols.Fleet`. Make and `start` it inside the router's event loop.

    drafters:      one entry per deployment
    drafter_order: the configured order of ids
    lease_wait_s:  how long a request may wait for a slot on a target
    """

    def __init__(
        self,
        target: Leasing,
        drafters: Sequence[Leasing],
        drafter_order: Sequence[str],
        lease_wait_s: float,
        tls: TlsFiles | None = None,
    ) -> None:
        self._target = target
        self._lease_wait_s = lease_wait_s
        self._drafter_order = tuple(drafter_order)
        self._connections = ConnectionPool(tls)
        self._links = [DrafterLink(leasing, tls) for leasing in drafters]
        self._draining: set[asyncio.Task[None]] = set()
        self._warm_up: asyncio.Task[None] | None = None

    @property
    def is_ready(self) -> bool:
        """True when a target replica has been reached since the start."""
        return self._warm_up is not None and self._warm_up.done()

    def start(self) -> None:
        """Connect in the background: to a target once, to the drafters again whenever a connection is lost."""
        self._warm_up = asyncio.ensure_future(self._reach_target())
        for link in self._links:
            link.start()

    async def close(self) -> None:
        """Close every connection."""
        if self._warm_up is not None:
            self._warm_up.cancel()
        await asyncio.gather(*(link.close() for link in self._links))
        await self._connections.close()

    def drafters(self) -> Mapping[str, Drafter]:
        """Implements `protocols.Fleet.drafters`."""
        connected = {name: drafter for link in self._links for name, drafter in link.drafters.items()}
        return {name: connected[name] for name in self._drafter_order if name in connected}

    @asynccontextmanager
    async def lease_target(self) -> AsyncIterator[Target]:
        """Implements `protocols.Fleet.lease_target`."""
        call, connection, lease_id = await self._lease()
        try:
            yield RemoteTarget(connection, lease_id)
        finally:
            # the session's end ends the lease on the replica; only the rest of the call must be read
            drain = asyncio.ensure_future(_drain(call))
            self._draining.add(drain)
            drain.add_done_callback(self._draining.discard)

    async def _lease(self) -> tuple[LeaseCall, ReplicaConnection, str]:
        cause = "no free slot"
        try:
            async with asyncio.timeout(self._lease_wait_s):
                while True:
                    try:
                        async with asyncio.timeout(LEASE_ATTEMPT_S):
                            return await self._lease_once()
                    except Exception as error:  # Serve raises Ray's own types for dead and overloaded replicas
                        cause = "no free slot" if isinstance(error, TimeoutError) else type(error).__name__
                        log.warning("target_lease_failed", error=cause)
                        await asyncio.sleep(FIRST_RETRY_S)
        except TimeoutError as error:
            raise TargetUnavailable(
                f"No target replica took the request within {self._lease_wait_s:g} s ({cause}). Try again later."
            ) from error

    async def _reach_target(self) -> None:
        while True:
            try:
                call, _, _ = await self._lease()
            except TargetUnavailable:
                continue
            call.cancel()
            return

    async def _lease_once(self) -> tuple[LeaseCall, ReplicaConnection, str]:
        call = self._target.lease()
        try:
            offer = await _first(call)
            return call, await self._connections.get(offer.address), offer.lease_id
        except BaseException:
            call.cancel()
            raise


class ConnectionPool:
    """One live connection per target address, made on first use and shared by all requests."""

    def __init__(self, tls: TlsFiles | None) -> None:
        self._tls = tls
        self._connecting: dict[str, asyncio.Task[ReplicaConnection]] = {}

    async def get(self, address: str) -> ReplicaConnection:
        """Return the connection to an address. Raises ReplicaLost."""
        self._connecting = {key: task for key, task in self._connecting.items() if _is_usable(task)}
        if address not in self._connecting:
            connection = ReplicaConnection(address, self._tls)
            self._connecting[address] = asyncio.ensure_future(connection.connect())
        # shielded: a request that gives up must not take the connection away from the others
        return await asyncio.shield(self._connecting[address])

    async def close(self) -> None:
        """Close every connection, also those that are being made."""
        tasks = list(self._connecting.values())
        for task in tasks:
            if not task.done():
                task.cancel()
        for connected in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(connected, ReplicaConnection):
                await connected.close()


class DrafterLink:
    """Keeps one connection to one replica of a drafter deployment, with a lease as long as the connection.

    drafters: the drafters of that replica by id; empty while there is no connection
    """

    def __init__(self, leasing: Leasing, tls: TlsFiles | None) -> None:
        self.drafters: Mapping[str, Drafter] = {}
        self._leasing = leasing
        self._tls = tls
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Connect, and connect again whenever the connection is lost, in the background."""
        self._task = asyncio.ensure_future(self._keep_connected())

    async def close(self) -> None:
        """Stop reconnecting and close the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep_connected(self) -> None:
        retry_s = FIRST_RETRY_S
        while True:
            try:
                await self._hold_one_connection()
                retry_s = FIRST_RETRY_S
            except Exception as error:  # Serve raises Ray's own types for dead and overloaded replicas
                log.info("no_drafter_replica", error=type(error).__name__)
                retry_s = min(2 * retry_s, MAX_RETRY_S)
            # jitter: routers that lost the same replica must not come back in step
            await asyncio.sleep(retry_s * random.uniform(0.5, 1.0))

    async def _hold_one_connection(self) -> None:
        call = self._leasing.lease()
        try:
            async with asyncio.timeout(LEASE_ATTEMPT_S):
                offer = await _first(call)
            async with ReplicaConnection(offer.address, self._tls, offer.lease_id) as connection:
                self.drafters = {d.drafter_id: _remote(connection, d, offer.address) for d in offer.drafters}
                try:
                    await connection.wait_lost()
                    log.warning("drafters_lost", address=offer.address, drafter=",".join(self.drafters))
                finally:
                    self.drafters = {}
        finally:
            call.cancel()


def _remote(connection: ReplicaConnection, offer: DrafterOffer, address: str) -> Drafter:
    return RemoteDrafter(connection, offer.drafter_id, address if offer.uses_features else "", offer.digest)


async def _first(call: LeaseCall) -> Offer:
    offer = await call.__anext__()  # type: ignore[misc]
    assert isinstance(offer, Offer)
    return offer


async def _drain(call: LeaseCall) -> None:
    """Read the call to its end; the replica may have died, and then the call raises."""
    try:
        async with asyncio.timeout(LEASE_DRAIN_S):
            while True:
                await call.__anext__()  # type: ignore[misc]
    except StopAsyncIteration:
        return
    except Exception:
        call.cancel()


def _is_usable(task: asyncio.Task[ReplicaConnection]) -> bool:
    if not task.done():
        return True
    return not task.cancelled() and task.exception() is None and task.result().is_alive
