"""`Preferences` gives a router its tenants' preferences from memory, and keeps the store up to date behind.

Requests read memory; loading, writing and folding happen in background tasks. This incarnation's sums are cumulative and
stay in memory, so nothing is lost while the store is away: the next successful write carries everything.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np
import structlog
from numpy.typing import NDArray

from hedgespec.config import StoreConfig
from hedgespec.errors import RecordFolded, StoreError, StoreUnavailable
from hedgespec.protocols import PreferenceStore
from hedgespec.store.cached_key import CachedKey
from hedgespec.store.fields import OnEvent, StoreEvent, checked_incarnation, ignore_event
from hedgespec.store.folding import Folding
from hedgespec.store.record import AnswerOutcome, PreferenceKey, answer_totals, preference_vector

MAX_KEYS = 4096
"""Keys in memory; beyond it the least recently used one is given up."""

_LOG_INTERVAL_S = 60.0

log = structlog.get_logger(__name__)


class Preferences:
    """Owns the store: closing it closes the store.

    incarnation: unique to this process; None draws one
    wall_s: Unix time, for the buckets; monotonic_s: for intervals
    """

    def __init__(
        self,
        store: PreferenceStore,
        config: StoreConfig,
        *,
        incarnation: str | None = None,
        on_event: OnEvent = ignore_event,
        wall_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
        max_keys: int = MAX_KEYS,
    ) -> None:
        self._store = store
        self._config = config
        self._incarnation = checked_incarnation(incarnation or secrets.token_hex(8))
        self._on_event = on_event
        self._wall_s = wall_s
        self._monotonic_s = monotonic_s
        self._max_keys = max_keys
        self._cached: OrderedDict[PreferenceKey, CachedKey] = OrderedDict()
        self._unsaved: dict[PreferenceKey, CachedKey] = {}
        self._num_names = 0
        self._is_store_up = True
        self._next_attempt_s = -math.inf
        self._logged_s = -math.inf
        self._flusher: asyncio.Task[None] | None = None
        self._flush_lock = asyncio.Lock()
        self._folding = Folding(
            store,
            config.fold_after_s,
            lambda error: self._count_and_log("fold_failed", error),
            self._oldest_bucket_s,
            monotonic_s,
        )

    async def prior(self, key: PreferenceKey, drafter_ids: Sequence[str]) -> NDArray[np.float64]:
        """Return the tenant's preference, [num_drafters], sums to 1; mix it with uniform before use (`mixed_prior`).

        Waits for the store only for a key that was never loaded, at most for the operation timeout, and not at all
        while the store is known to be down.
        """
        cached = self._cache(key)
        if cached.loading is None and self._is_load_due(cached):
            cached.tried_s = self._monotonic_s()
            cached.loading = asyncio.create_task(self._load(key, cached))
        if cached.loading is not None and cached.loaded_s is None and self._is_store_up:
            # wait does not cancel the load, neither on a timeout nor when this request is cancelled
            await asyncio.wait({cached.loading}, timeout=self._config.operation_timeout_s)
        return preference_vector(cached.everything().since(self._oldest_bucket_s()), drafter_ids)

    def record(self, key: PreferenceKey, outcome: AnswerOutcome) -> None:
        """Add one answer to this incarnation's sums; it is written in the background. Raises InvalidObservation."""
        totals = answer_totals(outcome)
        if not totals:
            return
        cached = self._cache(key)
        bucket_s = int(self._wall_s() // self._config.bucket_s * self._config.bucket_s)
        cached.own = cached.own.since(self._oldest_bucket_s()).plus(bucket_s, totals)
        self._save_later(key, cached)

    async def flush(self) -> None:
        """Write everything unsaved now; what cannot be written stays and is tried again in the background."""
        async with self._flush_lock:
            was_up = self._is_store_up
            await self._flush_once()
            if self._is_store_up and not was_up:
                # it has just come back, and everything is to be written again
                await self._flush_once()

    async def close(self) -> None:
        """Write what is unsaved, for at most the operation timeout, and close the store."""
        tasks = [cached.loading for cached in self._cached.values() if cached.loading is not None]
        tasks += [] if self._flusher is None else [self._flusher]
        await self._folding.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(self._config.operation_timeout_s):
                await self.flush()
        except TimeoutError as error:
            self._count_and_log("save_failed", error)
        for _ in self._unsaved:
            self._on_event("update_dropped")
        self._unsaved.clear()
        if self._flusher is not None:
            self._flusher.cancel()
            await asyncio.gather(self._flusher, return_exceptions=True)
        try:
            await self._store.close()
        except Exception as error:  # nothing is left to be done about it, and the router is to end
            self._count_and_log("save_failed", error)

    async def _flush_once(self) -> None:
        for key, cached in list(self._unsaved.items()):
            is_retry = cached.unconfirmed is not None
            is_up = await self._save(key, cached)
            if is_up and is_retry and self._unsaved.get(key) is cached:
                is_up = await self._save(key, cached)
            if not is_up:
                return

    async def _save(self, key: PreferenceKey, cached: CachedKey) -> bool:
        """Write one record. Returns False when the store is down; what cannot be written stays in `_unsaved`."""
        name, record = cached.name, cached.next_save()
        try:
            await self._store.save(key, name, record)
        except StoreUnavailable as error:
            self._store_failed("save_failed", error)
            return False
        except RecordFolded:
            await self._load(key, cached)
        except StoreError as error:
            # this key is spoilt in the store; the others are not
            cached.unconfirmed = None
            self._count_and_log("save_failed", error)
            return True
        except Exception as error:  # a store of another package may raise anything, and may have written the record
            self._count_and_log("save_failed", error)
            return True
        else:
            self._store_answered()
            if cached.name == name:
                cached.confirm(record)
        if cached.is_saved and self._unsaved.get(key) is cached:
            del self._unsaved[key]
        return True

    async def _load(self, key: PreferenceKey, cached: CachedKey) -> None:
        try:
            loaded = await self._store.load(key)
            is_write_due = cached.take(loaded, self._new_name)
        except Exception as error:  # a store of another package may raise anything
            self._store_failed("load_failed", error)
            return
        finally:
            cached.loading = None
        cached.loaded_s = self._monotonic_s()
        self._store_answered()
        if self._cached.get(key) is cached:
            self._folding.observe(key, {name: record for name, record in loaded.items() if name != cached.name})
            if is_write_due:  # not written yet, or the store has lost it
                self._save_later(key, cached)

    def _cache(self, key: PreferenceKey) -> CachedKey:
        cached = self._cached.get(key)
        if cached is None:
            while len(self._cached) >= self._max_keys:
                self._give_up_one()
            cached = self._cached[key] = CachedKey(self._new_name())
        self._cached.move_to_end(key)
        return cached

    def _new_name(self) -> str:
        self._num_names += 1
        return f"{self._incarnation}.{self._num_names}"

    def _give_up_one(self) -> None:
        oldest = list(islice(self._cached, 32))
        victim = next((key for key in oldest if key not in self._unsaved), oldest[0])
        del self._cached[victim]
        self._folding.forget(victim)
        if self._unsaved.pop(victim, None) is not None:
            self._on_event("update_dropped")

    def _is_load_due(self, cached: CachedKey) -> bool:
        now_s = self._monotonic_s()
        if not self._is_store_up:
            # one request per interval finds out for all of them whether the store is back
            if now_s < self._next_attempt_s:
                return False
            self._next_attempt_s = now_s + self._config.refresh_interval_s
            return True
        return cached.loaded_s is None or now_s - cached.tried_s >= self._config.refresh_interval_s

    def _oldest_bucket_s(self, latest_s: float = math.inf) -> int:
        return math.ceil(min(self._wall_s(), latest_s) - self._config.bucket_s * self._config.num_buckets)

    def _save_later(self, key: PreferenceKey, cached: CachedKey) -> None:
        self._unsaved[key] = cached
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush_until_saved())

    async def _flush_until_saved(self) -> None:
        while self._unsaved:
            is_up = self._is_store_up
            await asyncio.sleep(self._config.flush_interval_s if is_up else self._config.refresh_interval_s)
            await self.flush()

    def _store_answered(self) -> None:
        if self._is_store_up:
            return
        self._is_store_up = True
        # it may have come back empty or with an older copy; writing everything again is harmless
        for key, cached in self._cached.items():
            if cached.own.sequence > 0:
                self._save_later(key, cached)

    def _store_failed(self, event: StoreEvent, error: Exception) -> None:
        self._is_store_up = False
        self._next_attempt_s = self._monotonic_s() + self._config.refresh_interval_s
        self._count_and_log(event, error)

    def _count_and_log(self, event: StoreEvent, error: Exception) -> None:
        self._on_event(event)
        now_s = self._monotonic_s()
        if now_s - self._logged_s >= _LOG_INTERVAL_S:
            self._logged_s = now_s
            log.warning("preference_store_failed", operation=event, reason=str(error) or repr(error))
