"""Folding on its schedule over a real Redis: a thousand dead routers, living ones that write, and two that fold at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import numpy as np
import pytest
import redis

from hedgespec.config import StoreConfig
from hedgespec.store.codec import encode
from hedgespec.store.fields import FOLDED_FIELD, StoreEvent, open_store
from hedgespec.store.folding import FEWEST_FIELDS
from hedgespec.store.preferences import Preferences
from hedgespec.store.record import AnswerOutcome, PreferenceKey, PreferenceRecord, answer_totals, merged
from tests.redis_server import RedisServer, running_redis

KEY = PreferenceKey("acme", "", "llama", "rejection", "rounds", 5)
DRAFTERS = ("a", "b", "c")
A_WINS = AnswerOutcome({"a": 10.0, "b": 20.0, "c": 20.0}, 40)
B_WINS = AnswerOutcome({"a": 20.0, "b": 10.0, "c": 20.0}, 40)
NUM_DEAD = 1000
CONFIG = StoreConfig(
    connect_timeout_s=5.0, operation_timeout_s=10.0, flush_interval_s=0.02, refresh_interval_s=0.1, fold_after_s=1.0
)
pytestmark = pytest.mark.redis_server


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


def leave_dead_routers(server: RedisServer) -> None:
    """Write the fields of NUM_DEAD routers that are gone; two of three answers were won by drafter a."""
    bucket_s = int(time.time() // CONFIG.bucket_s * CONFIG.bucket_s)
    fields = {
        f"dead{i}.1": encode(PreferenceRecord().plus(bucket_s, answer_totals(B_WINS if i % 3 == 0 else A_WINS)))
        for i in range(NUM_DEAD)
    }
    with redis.Redis.from_url(server.url) as client:
        client.hset(str(KEY), mapping=fields)


def field_names(server: RedisServer) -> set[str]:
    with redis.Redis.from_url(server.url) as client:
        return {name.decode() for name in client.hkeys(str(KEY))}


async def test_a_thousand_dead_fields_become_a_handful(redis_server: RedisServer) -> None:
    """Two routers fold on their schedules while a third writes: few fields, the same preference, no answer lost."""
    leave_dead_routers(redis_server)
    events: list[StoreEvent] = []
    names = ("alive", "folder1", "folder2")
    alive, *folders = (
        Preferences(
            open_store(CONFIG, redis_server.url, events.append), CONFIG, incarnation=name, on_event=events.append
        )
        for name in names
    )
    before = await folders[0].prior(KEY, DRAFTERS)
    num_answers = 0
    async with asyncio.timeout(60):
        while len(field_names(redis_server)) > FEWEST_FIELDS:
            alive.record(KEY, A_WINS)
            num_answers += 1
            for router in folders:
                await router.prior(KEY, DRAFTERS)
            await asyncio.sleep(0.02)
    left = field_names(redis_server)
    assert FOLDED_FIELD in left
    assert any(name.startswith("alive.") for name in left)
    for router in (alive, *folders):
        await router.close()
    reader = Preferences(open_store(CONFIG, redis_server.url), CONFIG)
    after = await reader.prior(KEY, DRAFTERS)
    wins_before = before * (NUM_DEAD + 1)
    np.testing.assert_allclose(
        after * (NUM_DEAD + num_answers + 1), wins_before + np.array([num_answers, 0, 0]), rtol=1e-9
    )
    await reader.close()
    store = open_store(CONFIG, redis_server.url)
    totals = merged((await store.load(KEY)).values()).totals()
    assert {name: each.count for name, each in totals.items()} == dict.fromkeys(DRAFTERS, NUM_DEAD + num_answers)
    await store.close()
    assert events == []


async def test_the_preference_is_the_same_when_no_router_writes(redis_server: RedisServer) -> None:
    """Every prior before, during and after the folds is the same number."""
    leave_dead_routers(redis_server)
    routers = [Preferences(open_store(CONFIG, redis_server.url), CONFIG) for _ in range(2)]
    before = await routers[0].prior(KEY, DRAFTERS)
    async with asyncio.timeout(60):
        while len(field_names(redis_server)) > FEWEST_FIELDS:
            for router in routers:
                np.testing.assert_allclose(await router.prior(KEY, DRAFTERS), before, rtol=1e-12)
            await asyncio.sleep(0.02)
    fresh = Preferences(open_store(CONFIG, redis_server.url), CONFIG)
    np.testing.assert_allclose(await fresh.prior(KEY, DRAFTERS), before, rtol=1e-12)
    for router in (*routers, fresh):
        await router.close()


async def test_two_folds_at_once_are_harmless(redis_server: RedisServer) -> None:
    """Of ten folds of the same thousand fields at the same moment one takes them; the others find nothing."""
    leave_dead_routers(redis_server)
    stores = [open_store(CONFIG, redis_server.url) for _ in range(10)]
    before = merged((await stores[0].load(KEY)).values()).totals()
    unchanged = {f"dead{i}.1": 1 for i in range(NUM_DEAD)}
    await asyncio.gather(*(store.fold(KEY, unchanged, 0) for store in stores))
    loaded = await stores[0].load(KEY)
    assert set(loaded) == {FOLDED_FIELD}
    assert loaded[FOLDED_FIELD].sequence == 1
    assert merged(loaded.values()).totals() == before
    for store in stores:
        await store.close()
