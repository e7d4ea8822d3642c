"""The store that a URL names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hedgespec.config import StoreConfig
from hedgespec.errors import ConfigError
from hedgespec.store.fields import OnEvent, ignore_event
from hedgespec.store.memory_store import MemoryStore
from hedgespec.store.sqlite_store import SqliteStore

if TYPE_CHECKING:
    from hedgespec.store.redis_store import RedisStore


def open_store(
    config: StoreConfig, url: str, on_event: OnEvent = ignore_event
) -> MemoryStore | SqliteStore | RedisStore:
    """A store that connects on first use: a database that is down does not keep the router from starting.

    Raises ConfigError for a URL that names no store.
    """
    scheme = url.partition("://")[0]
    if url == "memory://":
        return MemoryStore(on_event=on_event)
    if scheme == "sqlite":
        path = url.removeprefix("sqlite:///")
        if path == url or not path or "\0" in path:
            raise ConfigError(f"The store URL {url!r} is not sqlite:///FILE (four slashes for an absolute path).")
        return SqliteStore(Path(path).expanduser(), config, on_event)
    if scheme in ("redis", "rediss"):
        # the embedded default starts without the Redis client
        from hedgespec.store.redis_store import RedisStore

        return RedisStore(url, config, on_event)
    raise ConfigError(f"No store for scheme {scheme!r}. Known: memory://, sqlite:///FILE, redis://HOST:PORT/DB.")
