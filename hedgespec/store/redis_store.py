"""`redis://` keeps one hash per key with one field per incarnation. The only module that knows Redis."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError, WatchError

from hedgespec.config import StoreConfig
from hedgespec.errors import ConfigError, CorruptRecord, StoreUnavailable
from hedgespec.store.fields import Change, Fields, FieldStore, OnEvent, ignore_event


class RedisStore(FieldStore):
    """Every operation ends within the operation timeout; WATCH makes read-then-write atomic without scripts."""

    def __init__(self, url: str, config: StoreConfig, on_event: OnEvent = ignore_event) -> None:
        super().__init__(on_event)
        self._address = checked_redis_url(url)
        self._timeout_s = config.operation_timeout_s
        # after so long without a write all of its buckets are forgotten anyway
        self._expire_s = math.ceil(config.bucket_s * (config.num_buckets + 1))
        self._client: Redis = Redis.from_url(
            url,
            password=_password(config),
            socket_connect_timeout=config.connect_timeout_s,
            socket_timeout=config.operation_timeout_s,
            # one immediate retry, for a pooled connection that a server restart has closed
            retry=Retry(NoBackoff(), 1),
        )

    async def _read(self, key: str) -> Fields:
        try:
            async with self._bounded():
                return _named(await self._client.hgetall(key))
        except CorruptRecord:
            self._on_event("corrupt_record")
            return {}

    async def _change(self, key: str, change: Change, *names: str) -> None:
        async with self._bounded(), self._client.pipeline(transaction=True) as pipeline:
            while True:
                await pipeline.watch(key)
                # one HGET each: access lists of running servers do not have HMGET
                some: dict[str, Any] = {name: await pipeline.hget(key, name) for name in names}
                fields = {name: bytes(data) for name, data in some.items() if data is not None}
                written, removed = change(fields if names else _named(await pipeline.hgetall(key)))
                if not written:
                    return
                pipeline.multi()
                for name, data in written.items():
                    pipeline.hset(key, name, data)
                if removed:
                    pipeline.hdel(key, *removed)
                else:  # a fold adds nothing new, so it does not keep the key
                    pipeline.expire(key, self._expire_s)
                # the key was written to since WATCH: read again and try again, until the timeout
                with suppress(WatchError):
                    await pipeline.execute()
                    return

    async def close(self) -> None:
        await self._client.aclose()

    @asynccontextmanager
    async def _bounded(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except (RedisError, OSError, TimeoutError) as error:
            if isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE"):
                raise CorruptRecord(
                    f"A preference key in Redis at {self._address} is not a hash; remove it."
                ) from error
            cause = f"{type(error).__name__}: {error}" if str(error) else "no answer in time"
            raise StoreUnavailable(f"Redis at {self._address} cannot be used: {cause}.") from error


def checked_redis_url(url: str) -> str:
    """Return HOST:PORT of a redis:// or rediss:// URL, without its password. Raises ConfigError."""
    form = "redis://[USER:PASSWORD@]HOST[:PORT][/DB], or rediss:// for TLS"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 6379
    except ValueError as error:
        raise ConfigError(f"The store URL is not {form}: {error}.") from error
    database = parts.path.removeprefix("/")
    # options in the query would override our timeouts
    if parts.scheme not in ("redis", "rediss") or not host or parts.query or parts.fragment:
        raise ConfigError(f"The store URL is not {form}.")
    if database and not (database.isascii() and database.isdecimal()):
        raise ConfigError(f"The store URL is not {form}: database {database!r} is not a number.")
    return f"{host}:{port}"


def _named(fields: Mapping[Any, Any]) -> dict[str, bytes]:
    return {name.decode("ascii", "replace"): data for name, data in fields.items()}


def _password(config: StoreConfig) -> str | None:
    if config.password_file is None:
        return None
    try:
        return config.password_file.read_text().strip()
    except OSError as error:
        raise ConfigError(f"store.password_file {config.password_file} cannot be read: {error.strerror}.") from error
