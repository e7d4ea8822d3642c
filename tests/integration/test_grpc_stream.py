"""One stream carries every session of a router: nothing mixes, nothing a peer sends breaks it, its end frees everything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import grpc.aio
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from hedgespec.errors import ReplicaBusy, ReplicaLost, RequestError, UnknownSession
from hedgespec.models.tabular import TabularDrafter, TabularModel, TabularTarget
from hedgespec.rpc.channel import MAX_MESSAGE_BYTES, ROUNDS_METHOD
from hedgespec.rpc.client import RemoteDrafter, RemoteTarget
from hedgespec.rpc.connection import ReplicaConnection
from hedgespec.rpc.leases import Leases
from hedgespec.rpc.server import ReplicaServer, ReplicaServicer, start_server
from hedgespec.rpc.v1 import replica_pb2 as pb
from hedgespec.types import EMPTY_DRAFT, DraftRequest, Observation, Opened, SamplingParams, SessionSpec, Verdict
from tests.waiting import eventually

MODEL = TabularModel(vocab_size=12, seed=3)


class CountingTarget(TabularTarget):
    """A target that records which sessions are open, can be full, and can be held up."""

    def __init__(self, max_sessions: int = 1000) -> None:
        super().__init__(MODEL)
        self.open_sessions: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()
        self._max_sessions = max_sessions

    async def open(self, spec: SessionSpec) -> Opened:
        if len(self.open_sessions) >= self._max_sessions:
            raise ReplicaBusy("every slot is taken")
        self.open_sessions.add(spec.session_id)
        return await super().open(spec)

    async def verify(self, session_id: str, round_index: int, tree: object) -> Verdict:
        await self.gate.wait()
        if round_index == 666:
            raise ZeroDivisionError("the secret prompt")
        return await super().verify(session_id, round_index, tree)  # type: ignore[arg-type]

    async def close(self, session_id: str) -> None:
        self.open_sessions.discard(session_id)
        await super().close(session_id)


@asynccontextmanager
async def serving(servicer: ReplicaServicer) -> AsyncIterator[ReplicaServer]:
    server = await start_server(servicer)
    try:
        yield server
    finally:
        await server.stop()


def make_spec(session_id: str, prompt: tuple[int, ...] = (1, 2, 3), seed: int | None = None) -> SessionSpec:
    sampling = SamplingParams(temperature=0.0 if seed is None else 1.0, seed=seed)
    return SessionSpec(session_id, np.array(prompt, np.int32), np.zeros(0, np.int32), sampling, seed or 0, 4)


async def answer(target: object, drafter: object, spec: SessionSpec, num_rounds: int) -> list[int]:
    ids: list[int] = []
    await asyncio.gather(target.open(spec), drafter.open(spec))  # type: ignore[attr-defined]
    for round_index in range(num_rounds):
        tree = await drafter.draft(DraftRequest(spec.session_id, round_index, 4))  # type: ignore[attr-defined]
        verdict = await target.verify(spec.session_id, round_index, tree)  # type: ignore[attr-defined]
        await drafter.observe(  # type: ignore[attr-defined]
            spec.session_id, round_index, Observation(len(ids), verdict.token_ids, verdict.target_probs)
        )
        ids.extend(verdict.token_ids.tolist())
    await target.close(spec.session_id)  # type: ignore[attr-defined]
    await drafter.close(spec.session_id)  # type: ignore[attr-defined]
    return ids


async def test_thirty_two_sessions_over_one_stream_get_their_own_texts() -> None:
    """Concurrent sessions with different prompts and seeds write what each writes alone in this process."""
    specs = [make_spec(f"s{i}", (i % 12, (5 * i) % 12), seed=i + 1) for i in range(32)]
    alone = [await answer(TabularTarget(MODEL), TabularDrafter("d", MODEL.related(0.5, 1)), s, 8) for s in specs]
    servicer = ReplicaServicer(TabularTarget(MODEL), {"d": TabularDrafter("d", MODEL.related(0.5, 1))})
    async with serving(servicer) as server, ReplicaConnection(server.address) as connection:
        target, drafter = RemoteTarget(connection), RemoteDrafter(connection, "d")
        together = await asyncio.gather(*(answer(target, drafter, spec, 8) for spec in specs))
        assert together == alone
        await eventually(lambda: servicer.num_sessions == 0)


async def test_drafters_of_one_group_share_a_stream() -> None:
    drafters = {name: TabularDrafter(name, MODEL.related(0.5, seed)) for seed, name in enumerate(("a", "b", "c"))}
    async with serving(ReplicaServicer(None, drafters)) as server, ReplicaConnection(server.address) as connection:
        remotes = [RemoteDrafter(connection, name) for name in drafters]
        await asyncio.gather(*(d.open(make_spec("s")) for d in remotes))
        trees = await asyncio.gather(*(d.draft(DraftRequest("s", 0, 4)) for d in remotes))
        assert [t.drafter_id for t in trees] == ["a", "b", "c"]
        assert len({tuple(t.token_ids.tolist()) for t in trees}) > 1
        with pytest.raises(RequestError, match="does not serve drafter 'x'"):
            await RemoteDrafter(connection, "x").open(make_spec("s"))
        with pytest.raises(RequestError, match="does not serve a target"):
            await RemoteTarget(connection).open(make_spec("s"))


async def test_a_group_that_is_sent_one_observation_scores_it_one_by_one() -> None:
    """One item for three drafters gives each its own scores, and an error of one (not open) is its own as well."""
    drafters = {name: TabularDrafter(name, MODEL.related(0.5, seed)) for seed, name in enumerate(("a", "b", "c"))}
    spec = replace(make_spec("s"), sampling=SamplingParams(temperature=1.0))
    verified = Observation(0, np.array([4, 5], np.int32), np.full(2, 0.5, np.float32))
    alone = []
    for seed, name in enumerate(("a", "b")):
        local = TabularDrafter(name, MODEL.related(0.5, seed))
        await local.open(spec)
        alone.append(await local.observe("s", 0, verified))
    async with serving(ReplicaServicer(None, drafters)) as server, ReplicaConnection(server.address) as connection:
        a, b, c = (RemoteDrafter(connection, name) for name in drafters)
        await asyncio.gather(a.open(spec), b.open(spec))
        calls = [drafter.observe("s", 0, verified) for drafter in (a, b, c)]
        *scores, error = await asyncio.gather(*calls, return_exceptions=True)
    for mine, theirs in zip(scores, alone, strict=True):
        np.testing.assert_array_equal(mine.acceptance, theirs.acceptance)
    assert not np.array_equal(scores[0].acceptance, scores[1].acceptance)
    assert isinstance(error, UnknownSession)


async def test_a_call_that_is_given_up_leaves_nothing_behind() -> None:
    """Cancelling forgets the call at once, whether a reply comes later or never does."""
    target = CountingTarget()
    async with serving(ReplicaServicer(target)) as server, ReplicaConnection(server.address) as connection:
        remote = RemoteTarget(connection)
        await remote.open(make_spec("s"))
        target.gate.clear()
        calls = [remote.verify("s", index, EMPTY_DRAFT) for index in range(3)]
        assert connection.num_waiting == 3
        for call in calls:
            call.cancel()
        assert connection.num_waiting == 0


async def test_a_reply_after_the_deadline_is_dropped_and_the_next_round_is_right() -> None:
    """A late verdict is matched by its round and never taken for another one."""
    target = CountingTarget()
    async with serving(ReplicaServicer(target)) as server, ReplicaConnection(server.address) as connection:
        remote = RemoteTarget(connection)
        await remote.open(make_spec("s"))
        target.gate.clear()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(remote.verify("s", 0, EMPTY_DRAFT), 0.05)
        target.gate.set()
        verdict = await remote.verify("s", 1, EMPTY_DRAFT)
        assert len(verdict.token_ids) == 1
        assert connection.num_waiting == 0


async def test_one_slow_session_does_not_hold_up_the_others() -> None:
    target = CountingTarget()
    drafter = TabularDrafter("slow", MODEL, delay_s=5.0)
    async with serving(ReplicaServicer(target, {"slow": drafter})) as server, ReplicaConnection(server.address) as c:
        await asyncio.gather(RemoteTarget(c).open(make_spec("fast")), RemoteDrafter(c, "slow").open(make_spec("slow")))
        slow = asyncio.ensure_future(RemoteDrafter(c, "slow").draft(DraftRequest("slow", 0, 4)))
        await asyncio.sleep(0)
        async with asyncio.timeout(2.0):
            await RemoteTarget(c).verify("fast", 0, EMPTY_DRAFT)
        assert not slow.done()
        slow.cancel()


async def test_errors_belong_to_one_session_and_leave_the_stream_alone() -> None:
    """Busy, unknown, failing inside the model: each reaches its own caller, the stream goes on."""
    target = CountingTarget(max_sessions=1)
    async with serving(ReplicaServicer(target)) as server, ReplicaConnection(server.address) as connection:
        remote = RemoteTarget(connection)
        await remote.open(make_spec("s"))
        with pytest.raises(ReplicaBusy, match="every slot"):
            await remote.open(make_spec("one too many"))
        with pytest.raises(UnknownSession):
            await remote.verify("one too many", 0, EMPTY_DRAFT)
        with pytest.raises(ReplicaLost, match="ZeroDivisionError") as caught:
            await remote.verify("s", 666, EMPTY_DRAFT)
        assert "secret" not in str(caught.value)
        assert len((await remote.verify("s", 1, EMPTY_DRAFT)).token_ids) == 1
        assert connection.is_alive


async def test_the_end_of_the_stream_closes_all_of_its_sessions_and_only_those() -> None:
    target = CountingTarget()
    servicer = ReplicaServicer(target)
    async with serving(servicer) as server, ReplicaConnection(server.address) as survivor:
        await RemoteTarget(survivor).open(make_spec("stays"))
        doomed = await ReplicaConnection(server.address).connect()
        for index in range(3):
            await RemoteTarget(doomed).open(make_spec(f"goes-{index}"))
        target.gate.clear()
        working = asyncio.ensure_future(RemoteTarget(doomed).verify("goes-0", 0, EMPTY_DRAFT))
        await asyncio.sleep(0.02)
        await doomed.close()
        with pytest.raises(ReplicaLost):
            await working
        await eventually(lambda: target.open_sessions == {"stays"})
        target.gate.set()
        await RemoteTarget(survivor).verify("stays", 0, EMPTY_DRAFT)
        assert servicer.num_sessions == 1


async def test_a_dead_replica_is_noticed_by_every_waiter_and_by_later_callers() -> None:
    """Every waiter gets ReplicaLost at once, close() stays silent, and a new connection is refused with the address."""
    target = CountingTarget()
    server = await start_server(ReplicaServicer(target))
    connection = await ReplicaConnection(server.address).connect()
    remote = RemoteTarget(connection)
    await remote.open(make_spec("s"))
    target.gate.clear()
    waiting = [asyncio.ensure_future(remote.verify("s", i, EMPTY_DRAFT)) for i in range(3)]
    await asyncio.sleep(0.02)
    await server.stop()
    lost = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in lost] == [ReplicaLost] * 3
    assert server.address in str(lost[0])
    async with asyncio.timeout(2.0):
        await connection.wait_lost()
    assert not connection.is_alive
    with pytest.raises(ReplicaLost):
        await remote.verify("s", 9, EMPTY_DRAFT)
    await remote.close("s")
    with pytest.raises(ReplicaLost, match=server.address):
        await ReplicaConnection(server.address).connect(timeout_s=1.0)
    await connection.close()


async def test_a_session_of_another_stream_cannot_be_used_or_closed() -> None:
    target = CountingTarget()
    async with (
        serving(ReplicaServicer(target)) as server,
        ReplicaConnection(server.address) as owner,
        ReplicaConnection(server.address) as stranger,
    ):
        await RemoteTarget(owner).open(make_spec("mine"))
        with pytest.raises(UnknownSession):
            await RemoteTarget(stranger).verify("mine", 0, EMPTY_DRAFT)
        await RemoteTarget(stranger).close("mine")
        await RemoteTarget(owner).verify("mine", 0, EMPTY_DRAFT)
        assert target.open_sessions == {"mine"}


async def test_a_router_that_comes_back_takes_its_session_over() -> None:
    """The old stream's late end must not close the session that the new stream has opened."""
    target = CountingTarget()
    async with serving(ReplicaServicer(target)) as server, ReplicaConnection(server.address) as new:
        old = await ReplicaConnection(server.address).connect()
        await RemoteTarget(old).open(make_spec("s"))
        await RemoteTarget(new).open(make_spec("s"))
        await old.close()
        await asyncio.sleep(0.05)
        assert len((await RemoteTarget(new).verify("s", 0, EMPTY_DRAFT)).token_ids) == 1


@asynccontextmanager
async def raw_stream(address: str) -> AsyncIterator[grpc.aio.StreamStreamCall]:
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.stream_stream(ROUNDS_METHOD)()
        yield call
        call.cancel()


async def test_bytes_that_are_not_a_frame_end_only_that_stream_with_invalid_argument() -> None:
    target = CountingTarget()
    async with (
        serving(ReplicaServicer(target)) as server,
        ReplicaConnection(server.address) as good,
        raw_stream(server.address) as call,
    ):
        await call.write(b"\xff\xff\xff\xff")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (await RemoteTarget(good).open(make_spec("s"))) == Opened()


async def test_a_message_above_the_cap_is_resource_exhausted() -> None:
    async with serving(ReplicaServicer(CountingTarget())) as server, raw_stream(server.address) as call:
        await call.write(bytes(MAX_MESSAGE_BYTES + 1))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_malformed_items_get_an_error_item_that_names_their_request() -> None:
    """Malformed are items without a body, replies sent as requests, ids out of range, and absurd draft lengths."""
    items = [
        pb.Item(session_id="s", call_index=1),
        pb.Item(session_id="s", call_index=2, verdict=pb.Verdict()),
        pb.Item(session_id="s", call_index=3, open=pb.Open(prompt_ids=[-1])),
        pb.Item(session_id="s", call_index=4, drafter_ids=["d"], draft=pb.Draft(num_draft_tokens=2**32 - 1)),
        pb.Item(session_id="t", call_index=5, verify=pb.Verify()),
        pb.Item(session_id="s", call_index=6, drafter_ids=["d"], observe=pb.Observe(token_ids=[1])),
    ]
    good = pb.Item(session_id="s", drafter_ids=["d"], open=pb.Open(prompt_ids=[1], sampling={"top_p": 1.0}))
    good.open.sampling.repetition_penalty = 1.0
    good.open.sampling.max_tokens = 16
    servicer = ReplicaServicer(CountingTarget(), {"d": TabularDrafter("d", MODEL)})
    async with serving(servicer) as server, raw_stream(server.address) as call:
        await call.write(pb.Frame(items=[good, *items]).SerializeToString())
        replies: dict[int, pb.Item] = {}
        while len(replies) < len(items) + 1:
            for item in pb.Frame.FromString(await call.read()).items:
                replies[item.call_index] = item
    kinds = {call_index: item.error.kind for call_index, item in replies.items()}
    assert replies[0].WhichOneof("body") == "opened"
    assert kinds == {
        0: 0,
        1: pb.Error.KIND_INVALID_REQUEST,
        2: pb.Error.KIND_INVALID_REQUEST,
        3: pb.Error.KIND_INVALID_REQUEST,
        4: pb.Error.KIND_INVALID_REQUEST,
        5: pb.Error.KIND_UNKNOWN_SESSION,
        6: pb.Error.KIND_INVALID_OBSERVATION,
    }
    assert replies[5].error.in_reply_to == pb.Item.VERIFY_FIELD_NUMBER


async def test_a_target_lease_ends_with_its_session_or_its_stream_or_unattached() -> None:
    """Serve's accounting follows the session: closing, a broken stream, and a router that never came all free the slot."""
    leases = Leases(attach_timeout_s=0.2)
    target = CountingTarget()
    async with serving(ReplicaServicer(target, leases=leases)) as server:
        closed, broken, never = leases.grant(), leases.grant(), leases.grant()
        ends = {name: asyncio.ensure_future(leases.wait_end(name)) for name in (closed, broken, never)}
        connection = await ReplicaConnection(server.address).connect()
        await RemoteTarget(connection, closed).open(make_spec("a"))
        await RemoteTarget(connection, broken).open(make_spec("b"))
        await asyncio.wait_for(ends[never], 2.0)
        assert not ends[closed].done()
        await RemoteTarget(connection, closed).close("a")
        await asyncio.wait_for(ends[closed], 2.0)
        assert not ends[broken].done()
        await connection.close()
        await asyncio.wait_for(ends[broken], 2.0)
    for name in ends:
        leases.forget(name)
    assert leases.num_open == 0


async def test_a_connection_lease_lasts_as_long_as_the_stream() -> None:
    leases = Leases(attach_timeout_s=0.2)
    servicer = ReplicaServicer(None, {"d": TabularDrafter("d", MODEL)}, leases)
    async with serving(servicer) as server:
        lease_id = leases.grant()
        end = asyncio.ensure_future(leases.wait_end(lease_id))
        async with ReplicaConnection(server.address, lease_id=lease_id) as connection:
            await RemoteDrafter(connection, "d").open(make_spec("s"))
            await asyncio.sleep(0.3)
            assert not end.done()
        await asyncio.wait_for(end, 2.0)
        assert servicer.num_sessions == 0


async def test_the_health_service_says_serving() -> None:
    async with (
        serving(ReplicaServicer(CountingTarget())) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        request = health_pb2.HealthCheckRequest(service="hedgespec.rpc.v1.Replica")
        reply = await health_pb2_grpc.HealthStub(channel).Check(request)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING
