"""Routers fold each other's records: every answer counts once, whichever record is folded, of a router alive or dead."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import numpy as np
import pytest

from hedgespec.config import StoreConfig
from hedgespec.errors import CorruptRecord, StoreUnavailable
from hedgespec.store.cached_key import CachedKey
from hedgespec.store.fields import FOLDED_FIELD, StoreEvent
from hedgespec.store.folding import FEWEST_FIELDS, MAX_FIELDS, Folding
from hedgespec.store.memory_store import MemoryStore
from hedgespec.store.preferences import Preferences
from hedgespec.store.record import AnswerOutcome, DrafterTotals, FoldMark, PreferenceKey, PreferenceRecord, merged

KEY = PreferenceKey("acme", "", "llama", "rejection", "rounds", 5)
OTHER_KEY = PreferenceKey("other", "", "llama", "rejection", "rounds", 5)
DRAFTERS = ("a", "b")
A_WINS = AnswerOutcome({"a": 10.0, "b": 20.0}, 40)
CONFIG = StoreConfig(flush_interval_s=3600.0, refresh_interval_s=1.0, fold_after_s=100.0)
ONE = {"a": DrafterTotals(1.0, 10.0, 40, 1), "b": DrafterTotals(0.0, 20.0, 40, 1)}


class Clock:
    def __init__(self) -> None:
        self.now_s = 10_000.0

    def __call__(self) -> float:
        return self.now_s


class DeafStore(MemoryStore):
    """A store whose next saves are not answered: written or lost, the router cannot tell."""

    def __init__(self, fields: dict[str, dict[str, bytes]]) -> None:
        super().__init__(fields)
        self.next_saves: list[str] = []

    async def save(self, key: PreferenceKey, incarnation: str, record: PreferenceRecord) -> None:
        fate = self.next_saves.pop(0) if self.next_saves else "answered"
        if fate != "lost":
            await super().save(key, incarnation, record)
        if fate != "answered":
            raise StoreUnavailable("no answer in time, for this test")


class Routers:
    """Some routers over one store; nothing is written or folded unless a test says so."""

    def __init__(self, num_routers: int) -> None:
        self.fields: dict[str, dict[str, bytes]] = {}
        self.clock = Clock()
        self.stores = [DeafStore(self.fields) for _ in range(num_routers)]
        self.routers = [
            Preferences(store, CONFIG, incarnation=f"r{i}", monotonic_s=self.clock, max_keys=1)
            for i, store in enumerate(self.stores)
        ]

    async def refresh(self, index: int) -> float:
        """Load again, and return the share of drafter a."""
        self.clock.now_s += CONFIG.refresh_interval_s
        await self.routers[index].prior(KEY, DRAFTERS)
        await asyncio.sleep(0)
        return float((await self.routers[index].prior(KEY, DRAFTERS))[0])

    async def give_up(self, index: int) -> None:
        """Let another key push this one out of a router's memory, unless it has something unsaved."""
        if KEY not in self.routers[index]._unsaved:
            await self.routers[index].prior(OTHER_KEY, DRAFTERS)

    async def fold(self, which: slice = slice(None)) -> None:
        """Fold the records of some incarnations, dead or alive."""
        records = await MemoryStore(self.fields).load(KEY)
        names = sorted(name for name in records if name != FOLDED_FIELD)[which]
        await MemoryStore(self.fields).fold(KEY, {name: records[name].sequence for name in names}, 0)

    async def stored(self) -> Mapping[str, DrafterTotals]:
        return merged((await MemoryStore(self.fields).load(KEY)).values()).totals()

    async def close(self) -> None:
        for router in self.routers:
            await router.close()


@pytest.mark.parametrize("is_noticed_by_load", [True, False])
async def test_a_living_router_that_was_folded_goes_on_under_a_new_name(is_noticed_by_load: bool) -> None:
    """A load or a refused save shows it that it was folded; what it had counts as folded, what is new is written, all
    of it once."""
    world = Routers(1)
    (router,) = world.routers
    for _ in range(3):
        router.record(KEY, A_WINS)
    await router.flush()
    await world.fold()
    assert set(world.fields[str(KEY)]) == {FOLDED_FIELD}
    if is_noticed_by_load:
        assert await world.refresh(0) == pytest.approx(3.5 / 4)
    router.record(KEY, A_WINS)
    await router.flush()
    await router.flush()
    assert set(world.fields[str(KEY)]) == {FOLDED_FIELD, "r0.2"}
    assert (await world.stored())["a"] == DrafterTotals(4.0, 40.0, 160, 4)
    assert await world.refresh(0) == pytest.approx(4.5 / 5)
    await world.close()


async def test_an_idle_router_that_was_folded_writes_nothing() -> None:
    """The statistics that it had are folded, so there is nothing to write until the next answer."""
    world = Routers(1)
    world.routers[0].record(KEY, A_WINS)
    await world.routers[0].flush()
    await world.fold()
    assert await world.refresh(0) == pytest.approx(1.5 / 2)
    await world.close()
    assert set(world.fields[str(KEY)]) == {FOLDED_FIELD}


@pytest.mark.parametrize("fate", ["lost", "written"])
async def test_a_save_without_an_answer_and_then_a_fold(fate: str) -> None:
    """Every answer is there once, whether the unanswered save had arrived before the fold or not."""
    world = Routers(1)
    (router,), (store,) = world.routers, world.stores
    router.record(KEY, A_WINS)
    await router.flush()
    router.record(KEY, A_WINS)
    store.next_saves = [fate]
    await router.flush()
    router.record(KEY, A_WINS)
    await world.fold()
    await router.close()
    assert (await world.stored())["a"] == DrafterTotals(3.0, 30.0, 120, 3)


async def test_a_load_that_began_before_a_fold_and_ends_after_it_counts_nothing_twice() -> None:
    """Two loads may overtake each other; what is known to be folded is not counted from the older one."""
    store = MemoryStore()
    for name in ("dead.1", "dead.2", "other.1"):
        await store.save(KEY, name, PreferenceRecord().plus(0, ONE))
    before = await store.load(KEY)
    await store.fold(KEY, {"dead.2": 1}, 0)
    after = await store.load(KEY)
    cached = CachedKey("me.1")
    for loaded in (before, after, before, after):
        cached.take(loaded, lambda: "me.2")
        assert cached.everything().totals()["a"].wins <= 3.0
    assert cached.everything().totals()["a"].wins == 3.0


def test_a_record_that_is_loaded_beside_its_own_fold_counts_once() -> None:
    """Whatever store it comes from: an older router has written under a folded name again."""
    record = PreferenceRecord().plus(0, ONE)
    loaded = {"old.1": record, FOLDED_FIELD: PreferenceRecord(1, record.buckets, {"old": FoldMark(1, 1, 0)})}
    cached = CachedKey("me.1")
    cached.take(loaded, lambda: "me.2")
    assert cached.everything().totals()["a"].wins == 1.0


@pytest.mark.parametrize("jump_days", [-31, 31])
async def test_a_clock_that_jumps_during_a_fold_loses_nothing(jump_days: int) -> None:
    """What the records hold is dropped by their own age; the clock is right again later, and everything counts."""
    fields: dict[str, dict[str, bytes]] = {}
    wall, monotonic = Clock(), Clock()
    wall.now_s = 1.8e9
    bucket_s = int(wall.now_s // CONFIG.bucket_s * CONFIG.bucket_s)
    for number in range(FEWEST_FIELDS):
        await MemoryStore(fields).save(KEY, f"dead{number}.1", PreferenceRecord().plus(bucket_s, ONE))
    router = Preferences(MemoryStore(fields), CONFIG, wall_s=wall, monotonic_s=monotonic)
    await router.prior(KEY, DRAFTERS)
    monotonic.now_s += CONFIG.fold_after_s
    wall.now_s += jump_days * 86400.0
    await router._folding.fold_unchanged()
    wall.now_s -= jump_days * 86400.0
    assert set(fields[str(KEY)]) == {FOLDED_FIELD}
    reader = Preferences(MemoryStore(fields), CONFIG, wall_s=wall)
    assert (await reader.prior(KEY, DRAFTERS))[0] == pytest.approx(share(FEWEST_FIELDS))
    await reader.close()
    await router.close()


STEPS = {"answer": 0.3, "flush": 0.2, "refresh": 0.2, "fold": 0.15, "give up": 0.05, "lost": 0.05, "written": 0.05}
"""What happens next, and how likely that is. lost, written: a save that is not answered."""


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_happens_every_answer_counts_once(seed: int) -> None:
    """Three routers, ten lives of theirs, any order of events: no prior ever counts an answer twice, and none is lost."""
    rng = np.random.default_rng(seed)
    for _ in range(10):
        world, num_answers = Routers(3), 0
        for step in rng.choice(list(STEPS), size=60, p=list(STEPS.values())):
            index = int(rng.integers(3))
            if step == "answer":
                world.routers[index].record(KEY, A_WINS)
                num_answers += 1
            elif step == "flush":
                await world.routers[index].flush()
            elif step == "refresh":
                assert await world.refresh(index) <= share(num_answers) + 1e-9
            elif step == "give up":
                await world.give_up(index)
            elif step == "fold":
                await world.fold(slice(index, index + 2))
            else:
                world.stores[index].next_saves.append(str(step))
        for router, store in zip(world.routers, world.stores, strict=True):
            store.next_saves.clear()
            for _ in range(4):
                await router.flush()
        assert (await world.stored())["a"].wins == pytest.approx(num_answers)
        assert (await world.stored())["a"].count == num_answers
        for index in range(3):
            await world.refresh(index)
            assert await world.refresh(index) == pytest.approx(share(num_answers))
        await world.close()


def share(num_wins: int) -> float:
    """The preference of a drafter that has won every answer, of two."""
    return (num_wins + 0.5) / (num_wins + 1)


def made_folding(store: MemoryStore, clock: Clock, failures: list[Exception]) -> Folding:
    return Folding(store, CONFIG.fold_after_s, failures.append, lambda newest_s: 0, clock)


async def test_only_what_was_seen_unchanged_for_long_is_folded() -> None:
    """A record that changes, or that was first seen a moment ago, stays."""
    store, clock, failures = MemoryStore(), Clock(), []
    folding = made_folding(store, clock, failures)
    records = {f"dead{i}": PreferenceRecord().plus(0, ONE) for i in range(2 * MAX_FIELDS + FEWEST_FIELDS)}
    for name, record in records.items():
        await store.save(KEY, name, record)
    await store.save(KEY, "alive", PreferenceRecord().plus(0, ONE))
    folding.observe(KEY, await store.load(KEY))
    clock.now_s += 60.0
    await store.save(KEY, "alive", PreferenceRecord().plus(0, ONE).plus(0, ONE))
    await store.save(KEY, "new", PreferenceRecord().plus(0, ONE))
    folding.observe(KEY, await store.load(KEY))
    await folding.fold_unchanged()
    assert len(await store.load(KEY)) == len(records) + 2
    clock.now_s += 60.0
    await folding.fold_unchanged()
    loaded = await store.load(KEY)
    assert set(loaded) == {"alive", "new", FOLDED_FIELD}
    assert merged(loaded.values()).totals()["a"].wins == len(records) + 3
    assert failures == []
    await folding.close()


async def test_a_few_records_are_left_alone() -> None:
    """Below FEWEST_FIELDS a fold would cost more than it saves: living routers that are idle keep their records."""
    store, clock = MemoryStore(), Clock()
    folding = made_folding(store, clock, [])
    for number in range(FEWEST_FIELDS - 1):
        await store.save(KEY, f"idle{number}", PreferenceRecord().plus(0, ONE))
    folding.observe(KEY, await store.load(KEY))
    clock.now_s += 1000.0
    await folding.fold_unchanged()
    assert len(await store.load(KEY)) == FEWEST_FIELDS - 1
    await folding.close()


@pytest.mark.parametrize(
    ("error", "num_tried"), [(StoreUnavailable("down"), 1), (CorruptRecord("spoilt"), 2), (KeyError("a bug"), 2)]
)
async def test_a_fold_that_fails_is_counted_and_tried_again(error: Exception, num_tried: int) -> None:
    """A store that is down ends the attempt, one spoilt key does not; nothing is raised, and the next attempt works."""

    class RefusingStore(MemoryStore):
        is_refusing = True

        async def fold(self, key: PreferenceKey, unchanged: Mapping[str, int], oldest_bucket_s: int) -> None:
            if self.is_refusing:
                raise error
            await super().fold(key, unchanged, oldest_bucket_s)

    store, clock, failures = RefusingStore(), Clock(), []
    folding = made_folding(store, clock, failures)
    for key in (KEY, OTHER_KEY):
        for number in range(FEWEST_FIELDS):
            await store.save(key, f"dead{number}", PreferenceRecord().plus(0, ONE))
        folding.observe(key, await store.load(key))
    clock.now_s += CONFIG.fold_after_s
    await folding.fold_unchanged()
    assert failures == [error] * num_tried
    store.is_refusing = False
    await folding.fold_unchanged()
    assert set(await store.load(KEY)) == set(await store.load(OTHER_KEY)) == {FOLDED_FIELD}
    await folding.close()


async def test_a_failing_fold_of_a_router_reaches_its_metrics_and_no_request() -> None:
    """`fold_failed` is counted; priors and records go on."""

    class NoFolds(MemoryStore):
        async def fold(self, key: PreferenceKey, unchanged: Mapping[str, int], oldest_bucket_s: int) -> None:
            raise StoreUnavailable("no folds, for this test")

    store, events = NoFolds(), list[StoreEvent]()
    for number in range(FEWEST_FIELDS):
        await store.save(KEY, f"dead{number}", PreferenceRecord().plus(int(4e9), ONE))
    router = Preferences(store, StoreConfig(fold_after_s=0.01), on_event=events.append)
    await router.prior(KEY, DRAFTERS)
    async with asyncio.timeout(30):
        while events.count("fold_failed") < 3:  # noqa: ASYNC110 (counted in a callback)
            await asyncio.sleep(0.005)
    router.record(KEY, A_WINS)
    np.testing.assert_allclose((await router.prior(KEY, DRAFTERS))[0], 9.5 / 10)
    await router.close()
    assert set(events) == {"fold_failed"}
