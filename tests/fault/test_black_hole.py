"""A replica that stops answering without closing anything is noticed by keepalive, not by a request's deadline."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from hedgespec.errors import ReplicaLost
from hedgespec.models.tabular import TabularModel, TabularTarget
from hedgespec.rpc.client import RemoteTarget
from hedgespec.rpc.connection import ReplicaConnection
from hedgespec.rpc.server import ReplicaServicer, start_server
from hedgespec.types import EMPTY_DRAFT, SamplingParams, SessionSpec
from tests.fault.tcp_proxy import TcpProxy


async def test_both_ends_give_a_silent_peer_up_within_seconds_and_free_its_sessions() -> None:
    """Keepalive is 2 s + 1 s: the waiter gets ReplicaLost and the replica closes the session, both within 8 s."""
    servicer = ReplicaServicer(TabularTarget(TabularModel(), delay_s=60.0))
    server = await start_server(servicer)
    spec = SessionSpec("s", np.array([1], np.int32), np.zeros(0, np.int32), SamplingParams(), 0, 4)
    async with TcpProxy(int(server.address.rpartition(":")[2])).running() as proxy:
        connection = await ReplicaConnection(proxy.address).connect()
        remote = RemoteTarget(connection)
        await remote.open(spec)
        verifying = asyncio.ensure_future(remote.verify("s", 0, EMPTY_DRAFT))
        await asyncio.sleep(0.05)
        assert servicer.num_sessions == 1
        started = time.monotonic()
        proxy.go_silent()
        with pytest.raises(ReplicaLost):
            await asyncio.wait_for(verifying, 8.0)
        async with asyncio.timeout(8.0):
            while servicer.num_sessions:  # noqa: ASYNC110 - it changes in a task of the server's
                await asyncio.sleep(0.05)
        assert time.monotonic() - started < 8.0
        await connection.close()
    await server.stop()
