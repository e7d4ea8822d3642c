"""Hidden features travel from the target's engine thread to the drafters' replicas; nothing ever waits for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import numpy as np
import pytest

from hedgespec.models.tabular import TabularDrafter, TabularModel
from hedgespec.rpc import feature_push
from hedgespec.rpc.channel import PUSH_FEATURES_METHOD
from hedgespec.rpc.feature_push import GrpcFeatureTransport
from hedgespec.rpc.server import ReplicaServer, ReplicaServicer, start_server
from hedgespec.types import FeatureBlock
from tests.waiting import eventually


class SinkDrafter(TabularDrafter):
    """A drafter that uses features and remembers what came."""

    feature_sink = "local:d"

    def __init__(self, drafter_id: str) -> None:
        super().__init__(drafter_id, TabularModel())
        self.blocks: list[FeatureBlock] = []

    def push(self, block: FeatureBlock) -> None:
        self.blocks.append(block)


@asynccontextmanager
async def receiving(*drafters: TabularDrafter, port: int = 0) -> AsyncIterator[ReplicaServer]:
    server = await start_server(ReplicaServicer(None, {d.drafter_id: d for d in drafters}), port=port)
    try:
        yield server
    finally:
        await server.stop()


@pytest.fixture
async def transport() -> AsyncIterator[GrpcFeatureTransport]:
    made = GrpcFeatureTransport()
    yield made
    await made.close()


def block(start: int, num_positions: int = 4, width: int = 6) -> FeatureBlock:
    rows = np.arange(num_positions * width, dtype=np.float32).reshape(num_positions, width) + start
    return FeatureBlock("s", start, rows)


async def test_blocks_pushed_from_another_thread_arrive_in_order(transport: GrpcFeatureTransport) -> None:
    drafter = SinkDrafter("d")
    async with receiving(drafter) as server:
        sink = transport.sink(server.address)

        def push_all() -> None:
            for start in range(0, 40, 4):
                sink.push(block(start))

        thread = threading.Thread(target=push_all)
        thread.start()
        await asyncio.to_thread(thread.join)
        await eventually(lambda: len(drafter.blocks) == 10)
    assert [b.start_position for b in drafter.blocks] == list(range(0, 40, 4))
    np.testing.assert_array_equal(drafter.blocks[3].rows, block(12).rows)


async def test_a_long_prompt_is_cut_into_messages_and_loses_no_row(
    transport: GrpcFeatureTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1,000 positions of 768 numbers are 3 MB; they arrive as several blocks that join without a hole."""
    drafter = SinkDrafter("d")
    sent = block(7, num_positions=1000, width=768)
    async with receiving(drafter) as server:
        transport.sink(server.address).push(sent)
        await eventually(lambda: sum(len(b.rows) for b in drafter.blocks) == 1000)
    assert len(drafter.blocks) > 1
    assert [b.start_position for b in drafter.blocks][:1] == [7]
    np.testing.assert_array_equal(np.concatenate([b.rows for b in drafter.blocks]), sent.rows)


async def test_every_drafter_of_a_group_gets_the_block_and_others_do_not(transport: GrpcFeatureTransport) -> None:
    one, two, other = SinkDrafter("one"), SinkDrafter("two"), TabularDrafter("three", TabularModel())
    async with receiving(one, two, other) as server:
        transport.sink(server.address).push(block(0))
        await eventually(lambda: len(one.blocks) == len(two.blocks) == 1)


async def test_a_full_queue_drops_instead_of_waiting() -> None:
    transport = GrpcFeatureTransport(max_queued_bytes=block(0).rows.nbytes * 3)
    drafter = SinkDrafter("d")
    async with receiving(drafter) as server:
        sink = transport.sink(server.address)
        for start in range(5):
            sink.push(block(start))  # the event loop has no chance to send in between
        await eventually(lambda: len(drafter.blocks) == 3)
        sink.push(block(9))
        await eventually(lambda: len(drafter.blocks) == 4)
    assert [b.start_position for b in drafter.blocks] == [0, 1, 2, 9]
    await transport.close()


async def test_a_dead_receiver_costs_blocks_and_a_restarted_one_gets_the_next(
    transport: GrpcFeatureTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_push, "RETRY_S", 0.02)
    first, second = SinkDrafter("d"), SinkDrafter("d")
    async with receiving(first) as server:
        port = int(server.address.rpartition(":")[2])
        sink = transport.sink(server.address)
        sink.push(block(0))
        await eventually(lambda: len(first.blocks) == 1)
    sink.push(block(4))
    async with receiving(second, port=port):

        def arrived() -> bool:
            sink.push(block(8))
            return bool(second.blocks)

        await eventually(arrived)
    assert second.blocks[0].start_position == 8


async def test_a_malformed_block_is_invalid_argument() -> None:
    async with receiving(SinkDrafter("d")) as server, grpc.aio.insecure_channel(server.address) as channel:
        call = channel.stream_unary(PUSH_FEATURES_METHOD)()
        await call.write(b"\xff\xff")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
