"""`redis://` keeps one hash per key with one field per incarnation. The only module that knows Redis."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError, WatchError

from hedgespec.config import StoreConfig
from hedgespec.errors import ConfigError, CorruptRecord, StoreUnavailable
from hedgespec.store.fields import (
    FOLDED_FIELD,
    OnEvent,
    checked_incarnation,
    fold_fields,
    ignore_event,
    readable_records,
    replacement,
)
from hedgespec.store.record import PreferenceKey, PreferenceRecord


class RedisStore:
    """Every operation ends within the operation timeout; WATCH makes read-then-write atomic without scripts."""

    def __init__(self, url: str, config: StoreConfig, on_event: OnEvent = ignore_event) -> None:
        self._address = checked_redis_url(url)
        self._timeout_s = config.operation_timeout_s
        # after so long without a write all of its buckets are forgotten anyway
        self._expire_s = math.ceil(config.bucket_s * (config.num_buckets + 1))
        self._on_event = on_event
        self._client: Redis = Redis.from_url(
            url,
            password=_password(config),
            socket_connect_timeout=config.connect_timeout_s,
            socket_timeout=config.operation_timeout_s,
            # one immediate retry, for a pooled connection that a server restart has closed
            retry=Retry(NoBackoff(), 1),
        )

    async def load(self, key: PreferenceKey) -> dict[str, PreferenceRecord]:
        try:
            async with self._bounded():
                fields = await self._client.hgetall(str(key))
        except CorruptRecord:
            self._on_event("corrupt_record")
            return {}
        return readable_records(_named(fields), self._on_event)

    async def save(self, key: PreferenceKey, incarnation: str, record: PreferenceRecord) -> None:
        name = checked_incarnation(incarnation)
        async with self._bounded(), self._client.pipeline(transaction=True) as pipeline:
            while True:
                await pipeline.watch(str(key))
                fields = {field: await _field(pipeline, key, field) for field in (name, FOLDED_FIELD)}
                stored = {field: data for field, data in fields.items() if data is not None}
                data = replacement(stored, name, record, self._on_event)
                if data is None:
                    return
                pipeline.multi()
                pipeline.hset(str(key), name, data)
                pipeline.expire(str(key), self._expire_s)
                if await _executed(pipeline):
                    return

    async def fold(self, key: PreferenceKey, unchanged: Mapping[str, int], oldest_bucket_s: int) -> None:
        async with self._bounded(), self._client.pipeline(transaction=True) as pipeline:
            while True:
                await pipeline.watch(str(key))
                folded = fold_fields(_named(await pipeline.hgetall(str(key))), unchanged, oldest_bucket_s)
                if folded is None:
                    return
                data, replaced = folded
                pipeline.multi()
                pipeline.hset(str(key), FOLDED_FIELD, data)
                pipeline.hdel(str(key), *replaced)
                if await _executed(pipeline):
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


async def _field(pipeline: Pipeline, key: PreferenceKey, name: str) -> bytes | None:
    """Read one field between WATCH and MULTI. One HGET each: access lists of running servers do not have HMGET."""
    data: Any = await pipeline.hget(str(key), name)
    return data if data is None else bytes(data)


async def _executed(pipeline: Pipeline) -> bool:
    """Return False when the key was written to since WATCH: read again and try again, until the timeout."""
    try:
        await pipeline.execute()
    except WatchError:
        return False
    return True


def _named(fields: Mapping[Any, Any]) -> dict[str, bytes]:
    return {name.decode("ascii", "replace"): data for name, data in fields.items()}


def _password(config: StoreConfig) -> str | None:
    if config.password_file is None:
        return None
    try:
        return config.password_file.read_text().strip()
    except OSError as error:
        raise ConfigError(f"store.password_file {config.password_file} cannot be read: {error.strerror}.") from error
