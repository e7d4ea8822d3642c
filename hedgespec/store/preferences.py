"""The router's view of preferences: a cache in front of the store that never makes a request wait for it twice.

This incarnation's sums are cumulative and stay here, so nothing is lost while the store is away: the next successful
write carries everything. Requests read memory; loading and writing happen in background tasks.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import structlog
from numpy.typing import NDArray

from hedgespec.config import StoreConfig
from hedgespec.errors import StoreError, StoreUnavailable
from hedgespec.protocols import PreferenceStore
from hedgespec.store.fields import FOLDED_FIELD, OnEvent, StoreEvent, checked_incarnation, ignore_event
from hedgespec.store.preference import AnswerOutcome, answer_totals, preference_vector
from hedgespec.store.record import PreferenceKey, PreferenceRecord, merged

MAX_KEYS = 4096
"""Keys in memory; beyond it the least recently used one is given up."""

_LOG_INTERVAL_S = 60.0

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Entry:
    """field_name: where `own` is written, new for every entry, so that an entry can be given up and made again
    loaded_s, tried_s: monotonic time of the last successful and of the last attempted load
    """

    field_name: str
    own: PreferenceRecord = field(default_factory=PreferenceRecord)
    others: Mapping[str, PreferenceRecord] = field(default_factory=dict)
    loaded_s: float | None = None
    tried_s: float = -math.inf
    loading: asyncio.Task[None] | None = None


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
        self._entries: OrderedDict[PreferenceKey, _Entry] = OrderedDict()
        self._unsaved: dict[PreferenceKey, _Entry] = {}
        self._num_entries_made = 0
        self._is_store_up = True
        self._next_attempt_s = -math.inf
        self._logged_s = -math.inf
        self._flusher: asyncio.Task[None] | None = None
        self._flush_lock = asyncio.Lock()

    async def prior(self, key: PreferenceKey, drafter_ids: Sequence[str]) -> NDArray[np.float64]:
        """[num_drafters], the tenant's preference, sums to 1; mix it with uniform before use (`mixed_prior`).

        Waits for the store only for a key that was never loaded, at most for the operation timeout, and not at all
        while the store is known to be down.
        """
        entry = self._entry(key)
        if entry.loading is None and self._is_load_due(entry):
            entry.tried_s = self._monotonic_s()
            entry.loading = asyncio.create_task(self._load(key, entry))
        if entry.loading is not None and entry.loaded_s is None and self._is_store_up:
            # wait does not cancel the load, neither on a timeout nor when this request is cancelled
            await asyncio.wait({entry.loading}, timeout=self._config.operation_timeout_s)
        everything = merged((entry.own, *entry.others.values()))
        return preference_vector(everything.since(self._oldest_bucket_s()), drafter_ids)

    def record(self, key: PreferenceKey, outcome: AnswerOutcome) -> None:
        """Add one answer to this incarnation's sums; it is written in the background. Raises InvalidObservation."""
        totals = answer_totals(outcome)
        if not totals:
            return
        entry = self._entry(key)
        bucket_s = int(self._wall_s() // self._config.bucket_s * self._config.bucket_s)
        entry.own = entry.own.since(self._oldest_bucket_s()).plus(bucket_s, totals)
        self._save_later(key, entry)

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
        tasks = [entry.loading for entry in self._entries.values() if entry.loading is not None]
        tasks += [] if self._flusher is None else [self._flusher]
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
        await self._cancel_flusher()
        await self._store.close()

    async def _flush_once(self) -> None:
        for key, entry in list(self._unsaved.items()):
            saved = entry.own
            try:
                await self._store.save(key, entry.field_name, saved)
            except StoreUnavailable as error:
                self._store_failed("save_failed", error)
                return
            except StoreError as error:
                # this key is spoilt in the store; the others are not
                self._count_and_log("save_failed", error)
                continue
            self._store_answered()
            if entry.own is saved and self._unsaved.get(key) is entry:
                del self._unsaved[key]

    async def _load(self, key: PreferenceKey, entry: _Entry) -> None:
        try:
            loaded = dict(await self._store.load(key))
        except StoreError as error:
            self._store_failed("load_failed", error)
            return
        finally:
            entry.loading = None
        stored_own = loaded.pop(entry.field_name, PreferenceRecord())
        entry.others = _newest(entry.others, loaded)
        entry.loaded_s = self._monotonic_s()
        self._store_answered()
        if stored_own.sequence < entry.own.sequence and self._entries.get(key) is entry:
            # not written yet, or the store has lost it
            self._save_later(key, entry)

    def _entry(self, key: PreferenceKey) -> _Entry:
        entry = self._entries.get(key)
        if entry is None:
            while len(self._entries) >= self._max_keys:
                self._give_up_one()
            self._num_entries_made += 1
            entry = self._entries[key] = _Entry(f"{self._incarnation}.{self._num_entries_made}")
        self._entries.move_to_end(key)
        return entry

    def _give_up_one(self) -> None:
        oldest = list(islice(self._entries, 32))
        victim = next((key for key in oldest if key not in self._unsaved), oldest[0])
        del self._entries[victim]
        if self._unsaved.pop(victim, None) is not None:
            self._on_event("update_dropped")

    def _is_load_due(self, entry: _Entry) -> bool:
        now_s = self._monotonic_s()
        if not self._is_store_up:
            # one request per interval finds out for all of them whether the store is back
            if now_s < self._next_attempt_s:
                return False
            self._next_attempt_s = now_s + self._config.refresh_interval_s
            return True
        return entry.loaded_s is None or now_s - entry.tried_s >= self._config.refresh_interval_s

    def _oldest_bucket_s(self) -> int:
        return math.ceil(self._wall_s() - self._config.bucket_s * self._config.num_buckets)

    def _save_later(self, key: PreferenceKey, entry: _Entry) -> None:
        self._unsaved[key] = entry
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush_until_saved())

    async def _flush_until_saved(self) -> None:
        while self._unsaved:
            is_up = self._is_store_up
            await asyncio.sleep(self._config.flush_interval_s if is_up else self._config.refresh_interval_s)
            await self.flush()

    async def _cancel_flusher(self) -> None:
        if self._flusher is not None:
            self._flusher.cancel()
            await asyncio.gather(self._flusher, return_exceptions=True)

    def _store_answered(self) -> None:
        if self._is_store_up:
            return
        self._is_store_up = True
        # it may have come back empty or with an older copy; writing everything again is harmless
        for key, entry in self._entries.items():
            if entry.own.sequence > 0:
                self._save_later(key, entry)

    def _store_failed(self, event: StoreEvent, error: StoreError) -> None:
        self._is_store_up = False
        self._next_attempt_s = self._monotonic_s() + self._config.refresh_interval_s
        self._count_and_log(event, error)

    def _count_and_log(self, event: StoreEvent, error: Exception) -> None:
        self._on_event(event)
        now_s = self._monotonic_s()
        if now_s - self._logged_s >= _LOG_INTERVAL_S:
            self._logged_s = now_s
            log.warning("preference_store_failed", operation=event, cause=str(error))


def _newest(
    known: Mapping[str, PreferenceRecord], loaded: Mapping[str, PreferenceRecord]
) -> Mapping[str, PreferenceRecord]:
    """Loaded records, and the last good copy of those that are older or missing (corrupt) now.

    After a fold missing fields are part of the folded one, and keeping their copies would count them twice.
    """
    none = PreferenceRecord()
    if loaded.get(FOLDED_FIELD, none).sequence > known.get(FOLDED_FIELD, none).sequence:
        return loaded
    newer = {name: record for name, record in loaded.items() if record.sequence >= known.get(name, none).sequence}
    return {**known, **newer}
