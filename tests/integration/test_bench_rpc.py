"""The transport benchmark measures what it says: real processes, every way of a round, payloads as large as our frames."""

from __future__ import annotations

import asyncio

import pytest

from hedgespec.bench.rpc import RpcShape, bench_rpc
from hedgespec.bench.rpc_echo import frame_sizes
from hedgespec.bench.rpc_replicas import SIZE_BYTES, FreeDrafter, FreeTarget
from hedgespec.bench.rpc_rounds import loop_rounds, wire_rounds
from hedgespec.rpc.client import RemoteDrafter, RemoteTarget
from hedgespec.rpc.connection import ReplicaConnection
from hedgespec.rpc.server import ReplicaServicer, start_server


async def test_every_way_of_a_round_is_timed_for_a_group() -> None:
    shape = RpcShape(num_drafters=2, num_sparse_ids=4, num_sessions=2, is_grouped=True)
    report = await bench_rpc([shape], num_rounds=20, num_repeats=2)
    (case,) = report.cases
    assert case.shape == shape
    assert set(case.costs) == {"echo", "joined_echo", "wire", "loop", "scheduled", "local"}
    for cost in case.costs.values():
        assert len(cost.wall_ms) == len(cost.cpu_ms) == 2
        assert min(*cost.wall_ms, *cost.cpu_ms) > 0.0
    assert report.worst_loop_ratio == case.loop_ratio


@pytest.mark.parametrize("num_sparse_ids", [0, 8])
@pytest.mark.parametrize("num_joined", [1, 3])
async def test_the_echo_carries_as_many_bytes_as_our_frames(num_sparse_ids: int, num_joined: int) -> None:
    """The requests of a real client are at most 5 bytes smaller: round 0 and the first positions are short numbers."""
    sent: list[int] = []
    ids = [f"d{i}" for i in range(num_joined)]
    servicer = ReplicaServicer(FreeTarget(), {name: FreeDrafter(name, num_sparse_ids) for name in ids})
    server = await start_server(servicer)
    async with ReplicaConnection(server.address) as connection:
        write = connection._writer._write

        async def counted(data: bytes) -> object:
            sent.append(len(data))
            return await write(data)

        connection._writer._write = counted
        drafters = [RemoteDrafter(connection, name) for name in ids]
        await wire_rounds(RemoteTarget(connection), drafters, num_sparse_ids, 0, 3)
        await asyncio.sleep(0.05)
    await server.stop()
    sizes = frame_sizes(num_sparse_ids, num_joined)
    opened, *rounds, _ = sent
    assert opened > 0
    expected = [sizes[name][0] + SIZE_BYTES for name in ("draft", "verify", "observe")] * 3
    assert len(rounds) == len(expected)
    for ours, echo in zip(rounds, expected, strict=True):
        assert 0 <= echo - ours <= 5


async def test_the_loop_runs_on_free_models_in_one_process() -> None:
    drafters = [FreeDrafter(f"d{i}", 0) for i in range(3)]
    await loop_rounds(FreeTarget(), drafters, 0, 0, 20)
