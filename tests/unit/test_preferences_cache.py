"""`Preferences` in front of a store bound what a request waits for, what is written, and what a failing store costs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import numpy as np
import pytest
import structlog

from hedgespec.config import StoreConfig
from hedgespec.errors import CorruptRecord, InvalidObservation, StoreUnavailable
from hedgespec.store.fields import FOLDED_FIELD, StoreEvent
from hedgespec.store.memory_store import MemoryStore
from hedgespec.store.preferences import Preferences
from hedgespec.store.record import AnswerOutcome, DrafterTotals, PreferenceKey, PreferenceRecord, merged
from tests.waiting import eventually

KEY = PreferenceKey("acme", "", "llama", "rejection", "rounds", 5)
DRAFTERS = ("a", "b")
A_WINS = AnswerOutcome({"a": 10.0, "b": 20.0}, 40)
B_WINS = AnswerOutcome({"a": 20.0, "b": 10.0}, 40)
CONFIG = StoreConfig(
    operation_timeout_s=0.2, flush_interval_s=0.01, refresh_interval_s=0.02, bucket_s=100.0, num_buckets=3
)


class Clock:
    def __init__(self) -> None:
        self.now_s = 10_000.0

    def __call__(self) -> float:
        return self.now_s


class FlakyStore(MemoryStore):
    """A store that is down, hangs or refuses keys on command, and counts its calls."""

    def __init__(self, fields: dict[str, dict[str, bytes]] | None = None) -> None:
        super().__init__(fields)
        self.is_down = False
        self.is_hung = False
        self.refused: set[PreferenceKey] = set()
        self.num_loads = 0
        self.num_saves = 0

    async def load(self, key: PreferenceKey) -> dict[str, PreferenceRecord]:
        self.num_loads += 1
        await self._misbehave(key)
        return await super().load(key)

    async def save(self, key: PreferenceKey, incarnation: str, record: PreferenceRecord) -> None:
        self.num_saves += 1
        await self._misbehave(key)
        await super().save(key, incarnation, record)

    async def _misbehave(self, key: PreferenceKey) -> None:
        if self.is_hung:
            await asyncio.sleep(CONFIG.operation_timeout_s)
            raise StoreUnavailable("the store hangs for this test")
        if self.is_down:
            raise StoreUnavailable("the store is down for this test")
        if key in self.refused:
            raise CorruptRecord("this key is spoilt for this test")


def made(store: MemoryStore, incarnation: str = "r1", config: StoreConfig = CONFIG, **options) -> Preferences:
    return Preferences(store, config, incarnation=incarnation, **options)


async def stored_wins(store: MemoryStore, key: PreferenceKey = KEY) -> Mapping[str, float]:
    totals = merged((await MemoryStore.load(store, key)).values()).totals()
    return {name: each.wins for name, each in totals.items()}


async def test_a_new_tenant_starts_uniform() -> None:
    """Every drafter has the same share before the first answer."""
    preferences = made(MemoryStore())
    assert (await preferences.prior(KEY, DRAFTERS)).tolist() == [0.5, 0.5]
    await preferences.close()


async def test_an_answer_moves_the_next_prior_at_once() -> None:
    """This router's own statistics count before they are written anywhere."""
    preferences = made(MemoryStore())
    preferences.record(KEY, A_WINS)
    np.testing.assert_allclose(await preferences.prior(KEY, DRAFTERS), [0.75, 0.25])
    await preferences.close()


async def test_statistics_are_written_in_the_background() -> None:
    """The store has the statistics after a flush interval, without any request waiting; many answers become few writes."""
    store = FlakyStore()
    preferences = made(store)
    for _ in range(100):
        preferences.record(KEY, A_WINS)
    assert store.num_saves == 0
    await eventually(lambda: store.num_saves > 0)
    assert await stored_wins(store) == {"a": 100.0, "b": 0.0}
    assert store.num_saves == 1
    await preferences.close()


async def test_a_restarted_router_and_a_second_one_know_the_tenant() -> None:
    """Closing writes the rest; the next incarnation's first prior is the learned one."""
    fields: dict[str, dict[str, bytes]] = {}
    first = made(MemoryStore(fields), "r1")
    for _ in range(3):
        first.record(KEY, A_WINS)
    await first.close()
    second = made(MemoryStore(fields), "r2")
    np.testing.assert_allclose(await second.prior(KEY, DRAFTERS), [3.5 / 4, 0.5 / 4])
    second.record(KEY, B_WINS)
    await second.close()
    third = made(MemoryStore(fields), "r3")
    np.testing.assert_allclose(await third.prior(KEY, DRAFTERS), [3.5 / 5, 1.5 / 5])
    await third.close()


async def test_the_first_request_waits_and_later_ones_refresh_behind() -> None:
    """Concurrent first requests share one load; a stale copy is served while the new one is fetched."""
    store, clock = FlakyStore(), Clock()
    preferences = made(store, wall_s=clock, monotonic_s=clock)
    await asyncio.gather(*(preferences.prior(KEY, DRAFTERS) for _ in range(20)))
    assert store.num_loads == 1
    await store.save(KEY, "other", PreferenceRecord(1, {9900: {"a": DrafterTotals(3.0, 1.0, 9, 3)}}))
    clock.now_s += 1.0
    assert (await preferences.prior(KEY, DRAFTERS)).tolist() == [0.5, 0.5]
    await asyncio.sleep(0.01)
    assert store.num_loads == 2
    assert (await preferences.prior(KEY, DRAFTERS)).tolist() == [0.875, 0.125]
    await preferences.close()


async def test_other_routers_statistics_arrive_by_refresh() -> None:
    """Statistics that another router writes count here after a refresh interval."""
    fields: dict[str, dict[str, bytes]] = {}
    clock = Clock()
    one, two = (made(MemoryStore(fields), name, monotonic_s=clock) for name in ("r1", "r2"))
    await one.prior(KEY, DRAFTERS)
    two.record(KEY, A_WINS)
    await two.flush()
    assert (await one.prior(KEY, DRAFTERS)).tolist() == [0.5, 0.5]
    clock.now_s += 1.0
    await one.prior(KEY, DRAFTERS)
    await asyncio.sleep(0.01)
    assert (await one.prior(KEY, DRAFTERS)).tolist() == [0.75, 0.25]
    await one.close()
    await two.close()


async def test_a_hung_store_costs_one_wait_and_then_none() -> None:
    """The first request waits for the operation timeout at most; later ones not at all, not even the one that probes."""
    store, clock = FlakyStore(), Clock()
    store.is_hung = True
    preferences = made(store, monotonic_s=clock)
    loop = asyncio.get_running_loop()
    begin_s = loop.time()
    assert (await preferences.prior(KEY, DRAFTERS)).tolist() == [0.5, 0.5]
    assert 0.1 < loop.time() - begin_s < 2.0
    await eventually(lambda: preferences._cached[KEY].loading is None)
    clock.now_s += 1.0
    assert (await preferences.prior(KEY, DRAFTERS)).tolist() == [0.5, 0.5]
    assert preferences._cached[KEY].loading is not None
    await preferences.close()


async def test_an_answer_during_a_write_is_written_next() -> None:
    """An answer that is recorded while a save is under way is not mistaken for saved."""

    class SlowStore(MemoryStore):
        async def save(self, key: PreferenceKey, incarnation: str, record: PreferenceRecord) -> None:
            await super().save(key, incarnation, record)
            await asyncio.sleep(0.02)

    store = SlowStore()
    preferences = made(store)
    preferences.record(KEY, A_WINS)
    flush = asyncio.create_task(preferences.flush())
    await asyncio.sleep(0.01)
    preferences.record(KEY, A_WINS)
    await flush
    await preferences.flush()
    assert await stored_wins(store) == {"a": 2.0, "b": 0.0}
    await preferences.close()


async def test_a_store_that_is_down_is_not_waited_for() -> None:
    """While it is known to be down, new keys are answered from local statistics and probed once per interval."""
    store, clock = FlakyStore(), Clock()
    store.is_down = True
    events: list[StoreEvent] = []
    preferences = made(store, on_event=events.append, monotonic_s=clock)
    preferences.record(KEY, A_WINS)
    assert (await preferences.prior(KEY, DRAFTERS))[0] == 0.75
    for number in range(50):
        key = PreferenceKey(f"tenant{number}", "", "llama", "greedy", "rounds", 5)
        assert (await preferences.prior(key, DRAFTERS)).tolist() == [0.5, 0.5]
    assert store.num_loads == 1
    clock.now_s += 1.0
    for _ in range(50):
        await preferences.prior(KEY, DRAFTERS)
    await asyncio.sleep(0)
    assert store.num_loads == 2
    assert "load_failed" in events
    await preferences.close()


async def test_nothing_is_lost_while_the_store_is_away() -> None:
    """Answers of an outage are written when the store is back, once each, even if it comes back empty."""
    store = FlakyStore()
    preferences = made(store)
    other_key = PreferenceKey("idle", "", "llama", "greedy", "rounds", 5)
    preferences.record(KEY, A_WINS)
    preferences.record(other_key, B_WINS)
    await preferences.flush()
    store.is_down = True
    for _ in range(5):
        preferences.record(KEY, A_WINS)
    await preferences.flush()
    store._fields.clear()
    store.is_down = False
    await eventually(lambda: len(store._fields) == 2)
    assert await stored_wins(store) == {"a": 6.0, "b": 0.0}
    assert await stored_wins(store, other_key) == {"a": 0.0, "b": 1.0}
    await preferences.close()


async def test_a_store_that_lost_our_record_gets_it_again() -> None:
    """A refresh that finds our field missing or older writes it again, although nothing new has happened."""
    store, clock = FlakyStore(), Clock()
    preferences = made(store, monotonic_s=clock)
    preferences.record(KEY, A_WINS)
    await preferences.flush()
    store._fields.clear()
    clock.now_s += 1.0
    await preferences.prior(KEY, DRAFTERS)
    await eventually(lambda: bool(store._fields))
    assert await stored_wins(store) == {"a": 1.0, "b": 0.0}
    await preferences.close()


async def test_a_spoilt_key_does_not_hold_up_the_others() -> None:
    """One tenant's damaged key in the store is counted; every other tenant's statistics are written."""
    store = FlakyStore()
    store.refused.add(KEY)
    events: list[StoreEvent] = []
    preferences = made(store, on_event=events.append)
    good_key = PreferenceKey("good", "", "llama", "greedy", "rounds", 5)
    preferences.record(KEY, A_WINS)
    preferences.record(good_key, A_WINS)
    await preferences.flush()
    assert await stored_wins(store, good_key) == {"a": 1.0, "b": 0.0}
    assert events == ["save_failed"]
    store.refused.clear()
    await eventually(lambda: str(KEY) in store._fields)
    await preferences.close()


async def test_the_last_good_copy_of_a_damaged_record_is_kept() -> None:
    """A record that was read once keeps counting when it is damaged later; a fold does not make it count twice."""
    fields: dict[str, dict[str, bytes]] = {}
    clock = Clock()
    writer = made(MemoryStore(fields), "dead")
    for _ in range(3):
        writer.record(KEY, A_WINS)
    await writer.close()
    preferences = made(MemoryStore(fields), monotonic_s=clock)

    async def refreshed() -> float:
        clock.now_s += 1.0
        await preferences.prior(KEY, DRAFTERS)
        await asyncio.sleep(0.01)
        return float((await preferences.prior(KEY, DRAFTERS))[0])

    learned = await refreshed()
    ((name, good),) = fields[str(KEY)].items()
    fields[str(KEY)][name] = b"garbage"
    assert await refreshed() == learned
    fields[str(KEY)][name] = good
    await MemoryStore(fields).fold(KEY, {name: 3}, 0)
    assert set(fields[str(KEY)]) == {FOLDED_FIELD}
    assert await refreshed() == learned
    await preferences.close()


async def test_old_statistics_are_forgotten() -> None:
    """An answer no longer counts after num_buckets * bucket_s, here and in other routers."""
    clock, fields = Clock(), {}
    preferences = made(MemoryStore(fields), wall_s=clock)
    preferences.record(KEY, A_WINS)
    await preferences.flush()
    clock.now_s += 250.0
    assert (await preferences.prior(KEY, DRAFTERS))[0] > 0.5
    clock.now_s += 100.0
    assert (await preferences.prior(KEY, DRAFTERS)).tolist() == [0.5, 0.5]
    later = made(MemoryStore(fields), "r2", wall_s=clock)
    assert (await later.prior(KEY, DRAFTERS)).tolist() == [0.5, 0.5]
    preferences.record(KEY, B_WINS)
    await preferences.close()
    await later.close()
    ((_, record),) = (await MemoryStore(fields).load(KEY)).items()
    assert list(record.buckets) == [10_300]


async def test_memory_is_bounded_and_given_up_keys_stay_in_the_store() -> None:
    """The least recently used saved keys go first; seen again, their sums continue without loss."""
    store = FlakyStore()
    events: list[StoreEvent] = []
    preferences = made(store, on_event=events.append, max_keys=8)
    for _ in range(3):
        for number in range(24):
            preferences.record(PreferenceKey(f"t{number}", "", "llama", "greedy", "rounds", 5), A_WINS)
            if number % 4 == 3:
                await preferences.flush()
    await preferences.close()
    for number in range(24):
        key = PreferenceKey(f"t{number}", "", "llama", "greedy", "rounds", 5)
        assert await stored_wins(store, key) == {"a": 3.0, "b": 0.0}
    assert len(preferences._cached) <= 8
    assert events == []


async def test_statistics_that_must_be_dropped_are_counted() -> None:
    """Statistics that are lost, with the store down and more keys than fit, and on closing, are counted."""
    store = FlakyStore()
    store.is_down = True
    events: list[StoreEvent] = []
    preferences = made(store, on_event=events.append, max_keys=8)
    for number in range(10):
        preferences.record(PreferenceKey(f"t{number}", "", "llama", "greedy", "rounds", 5), A_WINS)
    assert events.count("update_dropped") == 2
    await preferences.close()
    assert events.count("update_dropped") == 10


async def test_the_cause_is_logged_once_a_minute() -> None:
    """An outage of an hour makes 60 log lines, not one per request, and each names the cause."""
    store, clock = FlakyStore(), Clock()
    store.is_down = True
    preferences = made(store, monotonic_s=clock)
    with structlog.testing.capture_logs() as lines:
        for _ in range(360):
            clock.now_s += 10.0
            await preferences.prior(KEY, DRAFTERS)
            await asyncio.sleep(0)
    assert 59 <= len(lines) <= 61
    assert lines[0]["event"] == "preference_store_failed"
    assert "down for this test" in lines[0]["reason"]
    await preferences.close()


async def test_a_cancelled_request_does_not_cancel_the_load() -> None:
    """A client that goes away during the first load leaves the load running for the next request."""
    store = FlakyStore({})
    preferences = made(store)
    store.is_hung = True
    request = asyncio.create_task(preferences.prior(KEY, DRAFTERS))
    await asyncio.sleep(0.01)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert preferences._cached[KEY].loading is not None
    await preferences.close()


async def test_impossible_outcomes_are_refused_before_they_count() -> None:
    """An outcome that no answer can have raises and leaves the sums as they were."""
    preferences = made(MemoryStore())
    with pytest.raises(InvalidObservation):
        preferences.record(KEY, AnswerOutcome({"a": float("nan"), "b": 1.0}, 40))
    preferences.record(KEY, AnswerOutcome({}, 40))
    assert (await preferences.prior(KEY, DRAFTERS)).tolist() == [0.5, 0.5]
    await preferences.close()


class BuggyStore(MemoryStore):
    """A store of another package, with bugs: every operation named in `broken` raises what is no StoreError."""

    def __init__(self, *broken: str) -> None:
        super().__init__()
        self.broken = set(broken)
        self.num_closed = 0

    async def load(self, key: PreferenceKey) -> dict[str, PreferenceRecord]:
        self._fail("load")
        return await super().load(key)

    async def save(self, key: PreferenceKey, incarnation: str, record: PreferenceRecord) -> None:
        self._fail("save")
        await super().save(key, incarnation, record)

    async def close(self) -> None:
        self.num_closed += 1
        self._fail("close")

    def _fail(self, operation: str) -> None:
        if operation in self.broken:
            raise KeyError(f"a bug in {operation}, for this test")


async def test_whatever_a_store_raises_is_counted_and_survived() -> None:
    """Requests go on, and what could not be written is written in the background as soon as the store works."""
    store, events = BuggyStore("load", "save"), list[StoreEvent]()
    preferences = made(store, on_event=events.append)
    assert (await preferences.prior(KEY, DRAFTERS)).tolist() == [0.5, 0.5]
    preferences.record(KEY, A_WINS)
    await eventually(lambda: events.count("save_failed") >= 2)
    assert set(events) == {"load_failed", "save_failed"}
    np.testing.assert_allclose(await preferences.prior(KEY, DRAFTERS), [0.75, 0.25])
    store.broken.clear()
    await eventually(lambda: str(KEY) in store._fields)
    assert await stored_wins(store) == {"a": 1.0, "b": 0.0}
    await preferences.close()


async def test_a_store_that_cannot_even_be_closed_ends_cleanly() -> None:
    """Closing raises nothing, closes the store, counts what is lost, and leaves no task behind."""
    store, events = BuggyStore("load", "save", "close"), list[StoreEvent]()
    preferences = made(store, on_event=events.append)
    await preferences.prior(KEY, DRAFTERS)
    preferences.record(KEY, A_WINS)
    await eventually(lambda: "save_failed" in events)
    await preferences.close()
    assert store.num_closed == 1
    assert events.count("update_dropped") == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}
