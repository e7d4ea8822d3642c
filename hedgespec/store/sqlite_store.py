"""`sqlite:///FILE` is the embedded default. Several processes may share the file."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from hedgespec.config import StoreConfig
from hedgespec.errors import ConfigError, StoreUnavailable
from hedgespec.store.fields import Change, Fields, FieldStore, OnEvent, ignore_event

Result = TypeVar("Result")

_TABLE = """CREATE TABLE IF NOT EXISTS preferences (
    key TEXT NOT NULL, incarnation TEXT NOT NULL, record BLOB NOT NULL, saved_s REAL NOT NULL,
    PRIMARY KEY (key, incarnation)) WITHOUT ROWID"""

WAL_RETRY_S = 0.01


class SqliteStore(FieldStore):
    """One connection in one thread of its own, opened by the first call and again after an error."""

    def __init__(
        self, path: Path, config: StoreConfig, on_event: OnEvent = ignore_event, wall_s: Callable[[], float] = time.time
    ) -> None:
        super().__init__(on_event)
        self._path = path
        self._timeout_s = config.operation_timeout_s
        self._forget_after_s = config.bucket_s * config.num_buckets
        self._wall_s = wall_s
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="preferences")
        self._connection: sqlite3.Connection | None = None
        self._is_closed = False

    async def _read(self, key: str) -> Fields:
        return await self._in_thread(lambda connection: _fields(connection, key))

    async def _change(self, key: str, change: Change, *names: str) -> None:
        await self._in_thread(lambda connection: self._transact(connection, key, change, names))

    async def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._thread.submit(self._disconnect)
            # not joined: a thread that hangs on a dead disk must not keep the router from ending
            self._thread.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        if self._is_closed:
            raise StoreUnavailable(f"The preference file {self._path} has been closed.")
        future = asyncio.get_running_loop().run_in_executor(self._thread, self._connected, work)
        try:
            # SQLite gives up on a lock by itself after one timeout; the second is for a disk that hangs
            async with asyncio.timeout(2 * self._timeout_s):
                return await future
        except (sqlite3.Error, OSError, TimeoutError) as error:
            cause = f"{type(error).__name__}: {error}" if str(error) else "no answer in time"
            raise StoreUnavailable(f"The preference file {self._path} cannot be used: {cause}.") from error

    def _connected(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        try:
            if self._connection is None:
                self._connection = self._connect()
            return work(self._connection)
        except sqlite3.Error:
            self._disconnect()
            raise

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        connection = sqlite3.connect(self._path, timeout=self._timeout_s, isolation_level=None)
        try:
            self._use_wal(connection)
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(_TABLE)
            oldest_s = self._wall_s() - self._forget_after_s
            connection.execute("DELETE FROM preferences WHERE saved_s < ?", (oldest_s,))
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        """Several routers may begin a file at the same moment, and SQLite does not wait for a lock here."""
        give_up_s = time.monotonic() + self._timeout_s
        while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError:
                if time.monotonic() > give_up_s:
                    raise
                time.sleep(WAL_RETRY_S)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _transact(self, connection: sqlite3.Connection, key: str, change: Change, names: Sequence[str]) -> None:
        # takes the write lock before reading, so no other process writes between our read and our write
        connection.execute("BEGIN IMMEDIATE")
        try:
            written, removed = change(_fields(connection, key, *names))
            rows = [(key, name, data, self._wall_s()) for name, data in written.items()]
            connection.executemany("INSERT OR REPLACE INTO preferences VALUES (?, ?, ?, ?)", rows)
            connection.executemany(
                "DELETE FROM preferences WHERE key = ? AND incarnation = ?", [(key, name) for name in removed]
            )
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


def from_url(url: str, config: StoreConfig, on_event: OnEvent) -> SqliteStore:
    path = url.removeprefix("sqlite:///")
    if path == url or not path or "\0" in path:
        raise ConfigError(f"The store URL {url!r} is not sqlite:///FILE (four slashes for an absolute path).")
    return SqliteStore(Path(path).expanduser(), config, on_event)


def _fields(connection: sqlite3.Connection, key: str, *names: str) -> dict[str, bytes]:
    """Read the fields of a key: those of the given names, or all."""
    query = "SELECT incarnation, record FROM preferences WHERE key = ?"
    if names:
        query += f" AND incarnation IN ({', '.join('?' * len(names))})"
    rows = connection.execute(query, (key, *names))
    # a column can hold any type in SQLite; anything that is not bytes is a damaged record
    return {str(field): record if isinstance(record, bytes) else b"" for field, record in rows}
