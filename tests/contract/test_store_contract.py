"""One suite over memory, SQLite and a real Redis server proves the store operations that preferences rely on."""

from __future__ import annotations

import asyncio
import sqlite3
import struct
import sys
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import redis

from hedgespec.catalogue import STORES
from hedgespec.config import StoreConfig
from hedgespec.errors import ConfigError, CorruptRecord, RecordFolded, StoreError, StoreUnavailable
from hedgespec.store.codec import decode, encode
from hedgespec.store.fields import FOLDED_FIELD, StoreEvent, open_store
from hedgespec.store.memory_store import MemoryStore
from hedgespec.store.record import DrafterTotals, FoldMark, PreferenceKey, PreferenceRecord, merged
from hedgespec.store.redis_store import checked_redis_url
from hedgespec.store.sqlite_store import SqliteStore
from tests.redis_server import RedisServer, running_redis

KEY = PreferenceKey("acme", "", "llama", "rejection", "rounds", 5)
CONFIG = StoreConfig(connect_timeout_s=1.0, operation_timeout_s=5.0)


def record(sequence: int, **wins: float) -> PreferenceRecord:
    totals = {name: DrafterTotals(value, 10.0, 40, 3) for name, value in wins.items()}
    return PreferenceRecord(sequence, {86400: totals})


@dataclass
class Backend:
    """One kind of store, and a way around it to its raw bytes."""

    kind: str
    url: str
    shared_memory: dict[str, dict[str, bytes]] = field(default_factory=dict)
    events: list[StoreEvent] = field(default_factory=list)

    def open(self):
        if self.kind == "memory":
            return MemoryStore(self.shared_memory, self.events.append)
        return open_store(CONFIG, self.url, self.events.append)

    def raw(self, incarnation: str, key: PreferenceKey = KEY) -> bytes | None:
        if self.kind == "memory":
            return self.shared_memory.get(str(key), {}).get(incarnation)
        if self.kind == "redis":
            with redis.Redis.from_url(self.url) as client:
                return client.hget(str(key), incarnation)
        with self._sqlite() as connection:
            query = "SELECT record FROM preferences WHERE key = ? AND incarnation = ?"
            return (connection.execute(query, (str(key), incarnation)).fetchone() or [None])[0]

    def put_raw(self, incarnation: str, data: bytes) -> None:
        if self.kind == "memory":
            self.shared_memory.setdefault(str(KEY), {})[incarnation] = data
        elif self.kind == "redis":
            with redis.Redis.from_url(self.url) as client:
                client.hset(str(KEY), incarnation, data)
        else:
            with self._sqlite() as connection:
                row = (str(KEY), incarnation, data, 4e9)
                connection.execute("INSERT OR REPLACE INTO preferences VALUES (?, ?, ?, ?)", row)

    def _sqlite(self):
        return closing(sqlite3.connect(self.url.removeprefix("sqlite:///"), isolation_level=None))


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


REDIS = pytest.param("redis", marks=pytest.mark.redis_server)


def test_every_store_of_the_catalogue_is_in_this_suite() -> None:
    """A new store adds itself to `Backend` and to the fixture below; `rediss` is `redis` over TLS."""
    assert set(STORES.names()) == {"memory", "sqlite", "redis", "rediss"}


@pytest.fixture(params=["memory", "sqlite", REDIS])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    return made_backend(request, tmp_path)


@pytest.fixture(params=["sqlite", REDIS])
def durable_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    return made_backend(request, tmp_path)


def made_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "redis":
        url = request.getfixturevalue("redis_server").url
        with redis.Redis.from_url(url) as client:
            client.flushall()
        return Backend("redis", url)
    return Backend(request.param, f"sqlite:///{tmp_path / 'state' / 'preferences.sqlite3'}")


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator:
    opened = backend.open()
    yield opened
    await opened.close()


async def test_a_new_key_is_empty(store) -> None:
    """Nothing is stored for a tenant that was never seen."""
    assert await store.load(KEY) == {}


async def test_incarnations_add_up(store) -> None:
    """Each incarnation has its own record; their sum is the sum of everything that was saved."""
    await store.save(KEY, "a", record(1, eagle=1.0, ngram=0.5))
    await store.save(KEY, "b", record(9, eagle=0.25))
    loaded = await store.load(KEY)
    assert loaded == {"a": record(1, eagle=1.0, ngram=0.5), "b": record(9, eagle=0.25)}
    assert merged(loaded.values()).totals() == {
        "eagle": DrafterTotals(1.25, 20.0, 80, 6),
        "ngram": DrafterTotals(0.5, 10.0, 40, 3),
    }


async def test_saving_again_changes_nothing(store, backend: Backend) -> None:
    """A repeated write is harmless, bit for bit."""
    await store.save(KEY, "a", record(3, eagle=1.0))
    before = backend.raw("a")
    await store.save(KEY, "a", record(3, eagle=1.0))
    assert backend.raw("a") == before


async def test_a_lower_sequence_never_overwrites(store, backend: Backend) -> None:
    """A write that comes late does not undo a newer one, and is counted."""
    await store.save(KEY, "a", record(7, eagle=3.0))
    await store.save(KEY, "a", record(6, eagle=2.0))
    assert await store.load(KEY) == {"a": record(7, eagle=3.0)}
    assert backend.events == ["stale_save"]


async def test_tenants_and_every_other_part_of_the_key_are_isolated(store) -> None:
    """Changing any one part of the key leads to other statistics."""
    await store.save(KEY, "a", record(1, eagle=1.0))
    for other in (
        replace(KEY, tenant="acme2"),
        replace(KEY, scope="code"),
        replace(KEY, target="qwen"),
        replace(KEY, method="greedy"),
        replace(KEY, objective="length"),
        replace(KEY, max_draft_tokens=6),
        replace(KEY, schema=2),
        replace(KEY, tenant="acme:", scope=""),
        replace(KEY, tenant="\N{SNOWMAN}\ud800 \0\n", scope="x" * 10_000),
    ):
        assert await store.load(other) == {}
        await store.save(other, "b", record(1, ngram=1.0))
        assert set(await store.load(other)) == {"b"}
    assert set(await store.load(KEY)) == {"a"}


async def test_a_corrupt_record_is_left_out(store, backend: Backend) -> None:
    """Bit flips, truncation and foreign bytes are counted and left out; the other incarnations still count."""
    await store.save(KEY, "a", record(1, eagle=1.0))
    await store.save(KEY, "b", record(1, ngram=1.0))
    good = backend.raw("a")
    assert good is not None
    flipped = [good[:i] + bytes([good[i] ^ 1 << i % 8]) + good[i + 1 :] for i in range(0, len(good), 7)]
    for damaged in (*flipped, good[:-1], good + b"x", b"", b"\x80\x04K\x01.", b"{}"):
        backend.put_raw("a", damaged)
        assert set(await store.load(KEY)) == {"b"}
        assert backend.raw("a") == damaged
    assert backend.events == ["corrupt_record"] * (len(flipped) + 5)


async def test_the_owner_heals_its_corrupt_record(store, backend: Backend) -> None:
    """An incarnation holds its own sums, so its next save replaces a damaged field."""
    await store.save(KEY, "a", record(1, eagle=1.0))
    backend.put_raw("a", b"garbage")
    await store.save(KEY, "a", record(2, eagle=2.0))
    assert await store.load(KEY) == {"a": record(2, eagle=2.0)}
    assert backend.events == ["corrupt_record"]


async def test_a_newer_schema_is_ignored_and_not_overwritten(store, backend: Backend) -> None:
    """A record of a later version is not read, not folded and not replaced: rolling back and forward loses nothing."""
    newer = newer_schema_record()
    await store.save(KEY, "b", record(1, ngram=1.0))
    backend.put_raw("a", newer)
    assert set(await store.load(KEY)) == {"b"}
    await store.save(KEY, "a", record(5, eagle=1.0))
    await store.fold(KEY, {"a": 1}, 0)
    assert backend.raw("a") == newer
    assert set(backend.events) == {"newer_schema"}


async def test_folding_keeps_the_sum(store, backend: Backend) -> None:
    """Folded twice, and once again for nothing, the sum stays the same and the fields get fewer."""
    for number in range(6):
        await store.save(KEY, f"dead{number}", record(number + 1, eagle=0.5, ngram=1.0))
    await store.save(KEY, "alive", record(4, eagle=2.0))
    before = merged((await store.load(KEY)).values()).totals()
    await store.fold(KEY, {"dead0": 1, "dead1": 2, "dead2": 3, "never-seen": 1}, 0)
    await store.fold(KEY, {"dead3": 4, "dead4": 5, "dead5": 6}, 0)
    await store.fold(KEY, {"dead3": 4, "dead4": 5, "dead5": 6}, 0)
    loaded = await store.load(KEY)
    assert set(loaded) == {"alive", FOLDED_FIELD}
    assert loaded[FOLDED_FIELD].sequence == 2
    assert merged(loaded.values()).totals() == before


async def test_a_folded_incarnation_cannot_save(store) -> None:
    """Every save of a router whose record was folded away is refused, however often it tries; the sum stays as it was."""
    await store.save(KEY, "a", record(3, eagle=1.0))
    await store.fold(KEY, {"a": 3}, 0)
    await store.save(KEY, "b", record(1, eagle=1.0))
    await store.fold(KEY, {"b": 1}, 0)
    for name, sequence in (("a", 3), ("a", 4), ("b", 2)):
        with pytest.raises(RecordFolded, match=repr(name)):
            await store.save(KEY, name, record(sequence, eagle=5.0))
    loaded = await store.load(KEY)
    assert set(loaded) == {FOLDED_FIELD}
    assert merged(loaded.values()).totals()["eagle"].wins == 2.0


async def test_a_fold_leaves_one_mark_per_process(store) -> None:
    """A process that went on under a newer name has given up its older ones: their late saves are refused as well."""
    for number in (1, 2, 12):
        await store.save(KEY, f"r.{number}", record(1, eagle=1.0))
    await store.fold(KEY, {"r.12": 1, "r.2": 1}, 0)
    await store.save(KEY, "r.13", record(1, eagle=1.0))
    await store.fold(KEY, {"r.1": 1}, 0)
    loaded = await store.load(KEY)
    assert set(loaded) == {"r.13", FOLDED_FIELD}
    assert loaded[FOLDED_FIELD].folded == {"r": FoldMark(12, 1, 86400)}
    for name in ("r.1", "r.7", "r.12"):
        with pytest.raises(RecordFolded):
            await store.save(KEY, name, record(9, eagle=1.0))


async def test_a_record_that_has_changed_is_not_folded(store) -> None:
    """A record that was written after the folding router had read it belongs to a router that lives."""
    await store.save(KEY, "a", record(3, eagle=1.0))
    await store.save(KEY, "b", record(3, eagle=1.0))
    await store.save(KEY, "a", record(4, eagle=2.0))
    await store.fold(KEY, {"a": 3, "b": 3}, 0)
    loaded = await store.load(KEY)
    assert set(loaded) == {"a", FOLDED_FIELD}
    await store.save(KEY, "a", record(5, eagle=3.0))
    assert (await store.load(KEY))["a"] == record(5, eagle=3.0)


async def test_a_fold_forgets_old_buckets_and_their_marks(store) -> None:
    """The folded record does not grow for ever: a mark lasts as long as any sum of its incarnation, and no longer."""
    await store.save(KEY, "old", PreferenceRecord(2, {100: {"eagle": DrafterTotals(1.0, 2.0, 3, 1)}}))
    await store.save(
        KEY, "both", PreferenceRecord(2, {b: {"eagle": DrafterTotals(1.0, 2.0, 3, 1)} for b in (100, 200)})
    )
    await store.fold(KEY, {"old": 2, "both": 2}, 100)
    assert set((await store.load(KEY))[FOLDED_FIELD].folded) == {"old", "both"}
    await store.save(KEY, "new", PreferenceRecord(1, {300: {"eagle": DrafterTotals(1.0, 2.0, 3, 1)}}))
    await store.fold(KEY, {"new": 1}, 200)
    folded = (await store.load(KEY))[FOLDED_FIELD]
    assert set(folded.folded) == {"both", "new"}
    assert set(folded.buckets) == {200, 300}


async def test_folding_leaves_what_it_cannot_read(store, backend: Backend) -> None:
    """A damaged field stays for inspection; a damaged folded field stops the fold before anything changes."""
    await store.save(KEY, "a", record(1, eagle=1.0))
    backend.put_raw("b", b"garbage")
    await store.fold(KEY, {"a": 1, "b": 1}, 0)
    assert backend.raw("b") == b"garbage"
    await store.save(KEY, "c", record(1, eagle=1.0))
    backend.put_raw(FOLDED_FIELD, b"garbage")
    with pytest.raises(CorruptRecord):
        await store.fold(KEY, {"c": 1}, 0)
    assert set(await store.load(KEY)) == {"c"}


async def test_a_record_that_is_written_again_after_its_fold_counts_once(store, backend: Backend) -> None:
    """A router of a version without fold marks repeats its sums under a folded name: no reader and no fold adds them."""
    for number in (1, 2):
        await store.save(KEY, f"old.{number}", record(1, eagle=1.0))
    await store.fold(KEY, {"old.2": 1}, 0)
    folded = await store.load(KEY)
    assert set(folded) == {FOLDED_FIELD}
    assert merged(folded.values()).totals()["eagle"].wins == 2.0
    for number in (1, 2):
        backend.put_raw(f"old.{number}", encode(record(2, eagle=2.0)))
    assert await store.load(KEY) == folded
    await store.fold(KEY, {"old.1": 2, "old.2": 2}, 0)
    assert await store.load(KEY) == folded


async def test_a_field_with_an_odd_name_stops_no_fold(store, backend: Backend) -> None:
    """No incarnation has such a name: the field stays as it is, and the others are folded."""
    odd = encode(record(1, eagle=1.0))
    await store.save(KEY, "a", record(1, eagle=1.0))
    backend.put_raw("odd name!", odd)
    await store.fold(KEY, {"odd name!": 1, "a": 1}, 0)
    assert set(await store.load(KEY)) == {"odd name!", FOLDED_FIELD}
    assert backend.raw("odd name!") == odd


async def test_folding_while_others_write_loses_nothing(backend: Backend) -> None:
    """A fold of dead fields and the saves of living incarnations may cross; the sum is that of all."""
    writer, folder = backend.open(), backend.open()
    for number in range(20):
        await writer.save(KEY, f"dead{number}", record(1, eagle=1.0))

    async def write() -> None:
        for sequence in range(1, 31):
            await writer.save(
                KEY, "alive", PreferenceRecord(sequence, {0: {"eagle": DrafterTotals(sequence, 0, 0, 30)}})
            )

    async def fold() -> None:
        for number in range(20):
            await folder.fold(KEY, {f"dead{number}": 1}, 0)

    await asyncio.gather(write(), fold())
    loaded = await writer.load(KEY)
    assert set(loaded) == {"alive", FOLDED_FIELD}
    assert merged(loaded.values()).totals()["eagle"].wins == 30 + 20
    await writer.close()
    await folder.close()


async def test_records_survive_reopening(durable_backend: Backend) -> None:
    """Records that were saved are there for the next process."""
    first = durable_backend.open()
    await first.save(KEY, "a", record(3, eagle=1.5))
    await first.close()
    second = durable_backend.open()
    assert await second.load(KEY) == {"a": record(3, eagle=1.5)}
    await second.close()


WRITER = """
import asyncio, sys
from hedgespec.catalogue import STORES
from hedgespec.config import StoreConfig
from hedgespec.store.fields import open_store
from hedgespec.store.record import DrafterTotals, PreferenceKey, PreferenceRecord

async def main(url, name):
    store = open_store(StoreConfig(connect_timeout_s=5, operation_timeout_s=20), url)
    key = PreferenceKey("acme", "", "llama", "rejection", "rounds", 5)
    record = PreferenceRecord()
    for _ in range(100):
        record = record.plus(0, {"eagle": DrafterTotals(1.0, 2.0, 3, 1)})
        await store.save(key, name, record)
    await store.close()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_writers_in_two_processes_lose_nothing(durable_backend: Backend) -> None:
    """Two processes that start at the same moment and write 100 times each: every update is in the sum."""
    root = Path(__file__).parents[2]
    writers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, durable_backend.url, name, cwd=root, stderr=asyncio.subprocess.PIPE
        )
        for name in ("a", "b")
    ]
    for writer in writers:
        _, errors = await writer.communicate()
        assert writer.returncode == 0, errors.decode()
    reader = durable_backend.open()
    assert merged((await reader.load(KEY)).values()).totals() == {"eagle": DrafterTotals(200.0, 400.0, 600, 200)}
    await reader.close()


@pytest.mark.parametrize("name", ["", FOLDED_FIELD, "a b", "x" * 65, "a\n"])
async def test_an_incarnation_needs_a_plain_name(store, name: str) -> None:
    """A name that could be mistaken for a field of the store's own is refused."""
    with pytest.raises(StoreError, match="incarnation"):
        await store.save(KEY, name, record(1, eagle=1.0))


async def test_closing_twice_is_fine(backend: Backend) -> None:
    """Shutting down is idempotent."""
    store = backend.open()
    await store.load(KEY)
    await store.close()
    await store.close()


@pytest.mark.redis_server
async def test_redis_keys_of_another_type_are_reported(redis_server: RedisServer) -> None:
    """A string where a hash should be is left alone: nothing is loaded, and saving says what is wrong."""
    events: list[StoreEvent] = []
    store = open_store(CONFIG, redis_server.url, events.append)
    with redis.Redis.from_url(redis_server.url) as client:
        client.set(str(KEY), b"not ours")
        assert await store.load(KEY) == {}
        with pytest.raises(CorruptRecord, match="not a hash"):
            await store.save(KEY, "a", record(1, eagle=1.0))
        assert client.get(str(KEY)) == b"not ours"
        client.delete(str(KEY))
    assert events == ["corrupt_record"]
    await store.close()


@pytest.mark.redis_server
async def test_redis_forgets_keys_that_are_no_longer_written(redis_server: RedisServer) -> None:
    """A key expires when all of its buckets would be forgotten, so abandoned tenants do not fill the server."""
    store = open_store(StoreConfig(bucket_s=100.0, num_buckets=3, operation_timeout_s=5.0), redis_server.url)
    await store.save(KEY, "a", record(1, eagle=1.0))
    with redis.Redis.from_url(redis_server.url) as client:
        assert 390 < client.ttl(str(KEY)) <= 400
    await store.close()


async def test_sqlite_forgets_rows_that_are_no_longer_written(tmp_path: Path) -> None:
    """Rows older than the oldest bucket are dropped on opening."""
    now_s = 1000.0
    config = StoreConfig(bucket_s=100.0, num_buckets=3)
    first = SqliteStore(tmp_path / "p.sqlite3", config, wall_s=lambda: now_s)
    await first.save(KEY, "old", record(1, eagle=1.0))
    now_s += 250.0
    await first.save(KEY, "new", record(1, eagle=1.0))
    await first.close()
    now_s += 100.0
    second = SqliteStore(tmp_path / "p.sqlite3", config, wall_s=lambda: now_s)
    assert set(await second.load(KEY)) == {"new"}
    await second.close()


async def test_sqlite_lets_no_other_process_write_between_its_read_and_its_write(tmp_path: Path) -> None:
    """The comparison of sequences holds until the row is written: another process has to wait."""
    path, refused = tmp_path / "p.sqlite3", []

    def write_from_outside() -> float:
        # the store asks for the time between reading and writing
        with closing(sqlite3.connect(path, timeout=0)) as other:
            try:
                other.execute("UPDATE preferences SET saved_s = 5e9")
            except sqlite3.OperationalError as error:
                refused.append(str(error))
        return 4e9

    first = SqliteStore(path, CONFIG)
    await first.save(KEY, "a", record(1, eagle=1.0))
    await first.close()
    second = SqliteStore(path, CONFIG, wall_s=write_from_outside)
    await second.load(KEY)
    refused.clear()
    await second.save(KEY, "a", record(2, eagle=2.0))
    assert refused == ["database is locked"]
    await second.close()


async def test_a_file_that_is_not_a_database_is_unavailable(tmp_path: Path) -> None:
    """The error names the file; the file is not touched."""
    path = tmp_path / "notes.txt"
    path.write_bytes(b"not a database at all, but long enough to look like one" * 40)
    before = path.read_bytes()
    store = open_store(CONFIG, f"sqlite:///{path}")
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"notes\.txt"):
            await store.load(KEY)
    await store.close()
    assert path.read_bytes() == before


async def test_a_locked_database_is_unavailable_in_time(tmp_path: Path) -> None:
    """Another process that holds the write lock costs one operation timeout, and later saves work."""
    path = tmp_path / "p.sqlite3"
    store = open_store(StoreConfig(operation_timeout_s=0.1), f"sqlite:///{path}")
    await store.save(KEY, "a", record(1, eagle=1.0))
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match=r"locked|in time"):
        await store.save(KEY, "a", record(2, eagle=2.0))
    holder.execute("ROLLBACK")
    holder.close()
    await store.save(KEY, "a", record(3, eagle=3.0))
    assert await store.load(KEY) == {"a": record(3, eagle=3.0)}
    await store.close()


@pytest.mark.parametrize(
    "url",
    [
        "memory://x", "sqlite://p.db", "sqlite:///", "redis://", "redis://host:port/0", "redis://host/zero",
        "redis://host/0?socket_timeout=9", "http://host", "preferences.db", "", "redis://host:99999",
    ],
)  # fmt: skip
def test_a_url_that_names_no_store_is_refused(url: str) -> None:
    """The error shows the form that is expected."""
    with pytest.raises(ConfigError, match="://"):
        open_store(CONFIG, url)


def test_an_unknown_scheme_lists_the_known_ones() -> None:
    """Every store, built in or from an installed package, can be named."""
    with pytest.raises(ConfigError, match=r"'postgres'.*memory://, sqlite://, redis://, rediss://"):
        open_store(CONFIG, "postgres://host/db")


def test_passwords_do_not_reach_messages() -> None:
    """Neither the error of a bad URL nor the address in later errors contains the password."""
    with pytest.raises(ConfigError) as refused:
        open_store(CONFIG, "redis://user:hunter2@host/zero")
    assert "hunter2" not in str(refused.value)
    with pytest.raises(ConfigError) as refused:
        open_store(CONFIG, "redis:/user:hunter2@host/0")
    assert "hunter2" not in str(refused.value)
    assert checked_redis_url("rediss://user:hunter2@host/3") == "host:6379"


def newer_schema_record() -> bytes:
    """An intact record with schema 2, as a later version would write it."""
    payload = b'{"anything": true}'
    crc = zlib.crc32(payload, zlib.crc32(struct.pack(">HI", 2, len(payload))))
    return struct.pack(">4sHII", b"HSPR", 2, len(payload), crc) + payload


def test_the_helper_writes_what_a_later_version_would() -> None:
    """The newer record is intact: only its schema number keeps it from being read."""
    with pytest.raises(CorruptRecord, match="schema 2"):
        decode(newer_schema_record())
    assert decode(encode(record(2, eagle=1.0))) == record(2, eagle=1.0)
