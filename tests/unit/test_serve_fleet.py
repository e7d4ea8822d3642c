"""The fleet over real gRPC, with Serve replaced by a list of offers: leases end, drafters vanish and come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from deployments import fleet as fleet_module
from deployments.fleet import ServeFleet
from deployments.replicas import DrafterOffer, Offer
from hedgespec.errors import TargetUnavailable
from hedgespec.models.tabular import TabularDrafter, TabularModel, TabularTarget
from hedgespec.rpc.leases import Leases
from hedgespec.rpc.server import ReplicaServer, ReplicaServicer, start_server
from hedgespec.types import SamplingParams, SessionSpec
from tests.waiting import eventually

MODEL = TabularModel()
SPEC = SessionSpec("s", np.array([1], np.int32), np.zeros(0, np.int32), SamplingParams(), 0, 4)


class FakeCall:
    """A call like Serve's streaming response as the fleet sees it: the replica runs ahead of its reader."""

    def __init__(self, items: AsyncIterator[Offer]) -> None:
        self._items: asyncio.Queue[Offer | Exception] = asyncio.Queue()
        self._running = asyncio.ensure_future(self._run(items))
        self.cancelled = False

    async def __anext__(self) -> Offer:
        item = await self._items.get()
        if isinstance(item, Exception):
            raise item
        return item

    def cancel(self) -> None:
        self.cancelled = True
        self._running.cancel()

    async def _run(self, items: AsyncIterator[Offer]) -> None:
        try:
            async for item in items:
                self._items.put_nowait(item)
            self._items.put_nowait(StopAsyncIteration())
        except Exception as error:
            self._items.put_nowait(error)


class FakeDeployment:
    """Leases one replica as the deployment classes do; `broken` makes Serve itself fail."""

    def __init__(self, offers: tuple[DrafterOffer, ...] = ()) -> None:
        self.leases = Leases(attach_timeout_s=5.0)
        self.address = ""
        self.broken = False
        self.hangs = False
        self.calls: list[FakeCall] = []
        self._offers = offers

    def lease(self) -> FakeCall:
        self.calls.append(FakeCall(self._lease()))
        return self.calls[-1]

    async def _lease(self) -> AsyncIterator[Offer]:
        if self.broken:
            raise RuntimeError("ActorDiedError")
        if self.hangs:
            await asyncio.sleep(60)
        lease_id = self.leases.grant()
        try:
            yield Offer(self.address, lease_id, self._offers)
            await self.leases.wait_end(lease_id)
        finally:
            self.leases.forget(lease_id)


@asynccontextmanager
async def replica(deployment: FakeDeployment, servicer: ReplicaServicer) -> AsyncIterator[ReplicaServer]:
    server = await start_server(servicer)
    deployment.address = server.address
    try:
        yield server
    finally:
        await server.stop()


def make_fleet(target: FakeDeployment, drafters: list[FakeDeployment], order: list[str], wait_s: float) -> ServeFleet:
    return ServeFleet(target, drafters, order, wait_s)


async def test_a_lease_lasts_exactly_as_long_as_its_session() -> None:
    target = FakeDeployment()
    async with replica(target, ReplicaServicer(TabularTarget(MODEL), leases=target.leases)):
        fleet = make_fleet(target, [], [], 5.0)
        async with fleet.lease_target() as model:
            await model.open(SPEC)
            assert target.leases.num_open == 1
            await model.close("s")
        await eventually(lambda: target.leases.num_open == 0)
        await fleet.close()


async def test_a_replica_without_a_slot_in_time_is_target_unavailable() -> None:
    """The wait is bounded and the abandoned call is cancelled, so that Serve frees its slot in the queue."""
    target = FakeDeployment()
    target.hangs = True
    fleet = make_fleet(target, [], [], 0.2)
    with pytest.raises(TargetUnavailable, match=r"0\.2 s"):
        async with fleet.lease_target():
            pass
    assert all(call.cancelled for call in target.calls)
    await fleet.close()


async def test_a_lease_is_asked_for_again_when_serve_or_the_replica_fails() -> None:
    """A dead replica behind the first lease, then a live one: the request only waits."""
    target = FakeDeployment()
    target.broken = True
    async with replica(target, ReplicaServicer(TabularTarget(MODEL), leases=target.leases)):
        fleet = make_fleet(target, [], [], 10.0)
        asyncio.get_running_loop().call_later(0.25, setattr, target, "broken", False)
        async with fleet.lease_target() as model:
            await model.open(SPEC)
            await model.close("s")
        assert len(target.calls) >= 2
        await fleet.close()


async def test_the_fleet_is_ready_once_a_target_was_reached() -> None:
    target = FakeDeployment()
    target.broken = True
    async with replica(target, ReplicaServicer(TabularTarget(MODEL), leases=target.leases)):
        fleet = make_fleet(target, [], [], 0.5)
        fleet.start()
        await asyncio.sleep(0.1)
        assert not fleet.is_ready
        target.broken = False
        await eventually(lambda: fleet.is_ready)
        await fleet.close()


async def test_drafters_come_in_configured_order_vanish_when_dead_and_return_when_restarted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A group is one connection; its end removes its drafters and only those, at once."""
    monkeypatch.setattr(fleet_module, "MAX_RETRY_S", 0.1)
    group = FakeDeployment((DrafterOffer("b", "digest-b", True), DrafterOffer("a", "", False)))
    single = FakeDeployment((DrafterOffer("c", "", False),))
    drafters = {name: TabularDrafter(name, MODEL) for name in "abc"}
    async with replica(single, ReplicaServicer(None, {"c": drafters["c"]}, single.leases)):
        busy = FakeDeployment()
        busy.hangs = True
        fleet = make_fleet(busy, [single, group], ["a", "b", "c"], 1.0)
        fleet.start()
        pair = {name: drafters[name] for name in "ab"}
        async with replica(group, ReplicaServicer(None, pair, group.leases)) as server:
            await eventually(lambda: list(fleet.drafters()) == ["a", "b", "c"])
            assert fleet.drafters()["b"].digest == "digest-b"
            assert fleet.drafters()["b"].feature_sink == server.address
            assert fleet.drafters()["a"].feature_sink == ""
            await fleet.drafters()["a"].open(SPEC)
        await eventually(lambda: list(fleet.drafters()) == ["c"])
        async with replica(group, ReplicaServicer(None, pair, group.leases)):
            await eventually(lambda: list(fleet.drafters()) == ["a", "b", "c"])
            await fleet.close()
        await eventually(lambda: group.leases.num_open == 0)
