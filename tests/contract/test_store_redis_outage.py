"""Preferences over a real Redis that is killed, wiped or frozen in the middle: serving goes on and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from hedgespec.config import StoreConfig
from hedgespec.errors import StoreUnavailable
from hedgespec.store.fields import StoreEvent, open_store
from hedgespec.store.preferences import Preferences
from hedgespec.store.record import AnswerOutcome, PreferenceKey, PreferenceRecord, merged
from tests.redis_server import RedisServer, running_redis
from tests.waiting import WAIT_S, eventually

KEY = PreferenceKey("acme", "", "llama", "rejection", "rounds", 5)
DRAFTERS = ("a", "b")
pytestmark = pytest.mark.redis_server
A_WINS = AnswerOutcome({"a": 10.0, "b": 20.0}, 40)
CONFIG = StoreConfig(connect_timeout_s=0.25, operation_timeout_s=0.5, flush_interval_s=0.02, refresh_interval_s=0.05)


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


async def until_stored(server: RedisServer, wins: float, timeout_s: float = WAIT_S) -> None:
    reader = open_store(StoreConfig(connect_timeout_s=2.0, operation_timeout_s=2.0), server.url)
    async with asyncio.timeout(timeout_s):
        while True:
            totals = merged((await reader.load(KEY)).values()).totals()
            if totals and totals["a"].wins == wins:
                break
            await asyncio.sleep(0.02)
    await reader.close()


@pytest.mark.parametrize("is_wiped", [False, True])
async def test_a_killed_redis_costs_nothing_but_time(redis_server: RedisServer, is_wiped: bool) -> None:
    """Every answer of both routers is stored once after SIGKILL, ten more answers and a restart with or without its data."""
    events: list[StoreEvent] = []
    routers = [Preferences(open_store(CONFIG, redis_server.url), CONFIG, on_event=events.append) for _ in range(2)]
    for router in routers:
        for _ in range(5):
            router.record(KEY, A_WINS)
    await until_stored(redis_server, 10.0)
    redis_server.kill()
    for router in routers:
        for _ in range(5):
            router.record(KEY, A_WINS)
            assert (await router.prior(KEY, DRAFTERS))[0] > 0.9
    async with asyncio.timeout(10):
        while events.count("save_failed") < 2:  # noqa: ASYNC110 (counted in a callback)
            await asyncio.sleep(0.02)
    if is_wiped:
        redis_server.wipe()
    redis_server.start()
    await until_stored(redis_server, 20.0)
    for router in routers:
        await router.close()
    await until_stored(redis_server, 20.0)


async def test_a_frozen_redis_is_given_up_in_time(redis_server: RedisServer) -> None:
    """An operation on a frozen server (SIGSTOP) ends with StoreUnavailable within its timeout, a request waits once,
    and it heals."""
    loop = asyncio.get_running_loop()
    store = open_store(CONFIG, redis_server.url)
    await store.save(KEY, "old", PreferenceRecord())
    redis_server.freeze()
    begin_s = loop.time()
    with pytest.raises(StoreUnavailable, match="127"):
        await store.load(KEY)
    assert loop.time() - begin_s < 2.0
    preferences = Preferences(store, CONFIG)
    preferences.record(KEY, A_WINS)
    await preferences.prior(KEY, DRAFTERS)
    await eventually(lambda: not preferences._is_store_up)
    begin_s = loop.time()
    for _ in range(100):
        await preferences.prior(KEY, DRAFTERS)
    assert loop.time() - begin_s < CONFIG.operation_timeout_s
    redis_server.thaw()
    await until_stored(redis_server, 1.0)
    await preferences.close()


async def test_no_redis_at_all_is_unavailable(redis_server: RedisServer) -> None:
    """A refused connection is StoreUnavailable and names the address."""
    store = open_store(CONFIG, redis_server.url)
    redis_server.stop()
    with pytest.raises(StoreUnavailable, match=str(redis_server.port)):
        await store.load(KEY)
    with pytest.raises(StoreUnavailable):
        await store.save(KEY, "a", PreferenceRecord())
    await store.close()
