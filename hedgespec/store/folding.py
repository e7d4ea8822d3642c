"""Folding keeps keys small: records that are no longer written, of dead routers, are summed into one (design 7).

A router cannot see whether another one is dead. It folds what it has seen unchanged for long; should the owner be alive
after all, the store refuses its next save, and it goes on under a new name (`CachedKey.take`). A wrong guess costs one write
and never a count. Routers need not agree on who folds: each waits a random time, and a fold is one transaction.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from itertools import islice
from typing import NamedTuple

import structlog

from hedgespec.errors import StoreUnavailable
from hedgespec.protocols import PreferenceStore
from hedgespec.store.fields import FOLDED_FIELD
from hedgespec.store.record import PreferenceKey, PreferenceRecord

FEWEST_FIELDS = 8
"""Fewer unchanged records than this are left alone: they cost a reader nothing."""

MAX_FIELDS = 256
"""Records of one transaction, so that it fits the operation timeout and holds up the event loop for milliseconds."""

log = structlog.get_logger(__name__)


class _Seen(NamedTuple):
    sequence: int
    newest_bucket_s: int
    since_s: float  # monotonic time


class Folding:
    """Folds in a task of its own, which begins with the first key that has enough records.

    on_failure: called with what a store raises; nothing is raised here
    oldest_bucket_s: returns the start of the oldest time bucket that still counts, now or at a Unix time if that is earlier
    """

    def __init__(
        self,
        store: PreferenceStore,
        fold_after_s: float,
        on_failure: Callable[[Exception], None],
        oldest_bucket_s: Callable[[float], int],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._store = store
        self._fold_after_s = fold_after_s
        self._on_failure = on_failure
        self._oldest_bucket_s = oldest_bucket_s
        self._monotonic_s = monotonic_s
        self._seen: dict[PreferenceKey, dict[str, _Seen]] = {}
        self._task: asyncio.Task[None] | None = None

    def observe(self, key: PreferenceKey, records: Mapping[str, PreferenceRecord]) -> None:
        """Note which of the other incarnations' records have changed since the last call."""
        now_s, before = self._monotonic_s(), self._seen.get(key, {})
        seen = {
            name: before[name]
            if name in before and before[name].sequence == record.sequence
            else _Seen(record.sequence, max(record.buckets, default=0), now_s)
            for name, record in records.items()
            if name != FOLDED_FIELD
        }
        self._seen[key] = seen
        if self._task is None and len(seen) >= FEWEST_FIELDS:
            self._task = asyncio.create_task(self._fold_forever())

    def forget(self, key: PreferenceKey) -> None:
        self._seen.pop(key, None)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def fold_unchanged(self) -> None:
        """Fold, for every key, the records that have been unchanged for long. Never raises what a store raises."""
        for key in list(self._seen):
            try:
                await self._fold_key(key)
            except StoreUnavailable as error:
                self._on_failure(error)
                return
            except Exception as error:  # a store of another package may raise anything
                self._on_failure(error)  # this key is spoilt in the store; the others are not

    async def _fold_forever(self) -> None:
        while True:
            await asyncio.sleep(self._fold_after_s * random.uniform(0.25, 0.75))
            await self.fold_unchanged()

    async def _fold_key(self, key: PreferenceKey) -> None:
        while len(unchanged := self._unchanged(key)) >= FEWEST_FIELDS:
            batch = dict(islice(unchanged.items(), MAX_FIELDS))
            # by the records themselves: a clock that is ahead for a moment must not drop what still counts
            newest_s = max(seen.newest_bucket_s for seen in batch.values())
            sequences = {name: seen.sequence for name, seen in batch.items()}
            await self._store.fold(key, sequences, self._oldest_bucket_s(newest_s))
            log.info("preferences_folded", count=len(batch))
            seen_now = self._seen.get(key, {})
            for name in batch:
                seen_now.pop(name, None)

    def _unchanged(self, key: PreferenceKey) -> dict[str, _Seen]:
        latest_s = self._monotonic_s() - self._fold_after_s
        return {name: seen for name, seen in self._seen.get(key, {}).items() if seen.since_s <= latest_s}
