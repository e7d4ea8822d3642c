"""The SQLite store shares its file with other processes that use it at the same moment."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from hedgespec.config import StoreConfig
from hedgespec.errors import StoreUnavailable
from hedgespec.store.record import PreferenceKey
from hedgespec.store.sqlite_store import SqliteStore

KEY = PreferenceKey("tenant", "", "target", "greedy", "rounds", 5)


@pytest.mark.parametrize("is_released", [True, False])
async def test_a_new_file_that_another_router_has_locked_is_waited_for(tmp_path: Path, is_released: bool) -> None:
    """Another router begins the file at the same moment: SQLite itself would refuse at once, the store waits."""
    path = tmp_path / "preferences.sqlite3"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE other (id INTEGER)")
    other.execute("BEGIN IMMEDIATE")
    store = SqliteStore(path, StoreConfig(operation_timeout_s=10.0 if is_released else 0.2))
    release = threading.Timer(0.1, lambda: other.execute("COMMIT"))
    if is_released:
        release.start()
        assert await store.load(KEY) == {}
        release.join()
    else:
        with pytest.raises(StoreUnavailable, match="locked"):
            await store.load(KEY)
    await store.close()
    other.close()
