"""`memory://` keeps preferences that end with the process, for tests and for runs that should leave nothing behind."""

from __future__ import annotations

from collections.abc import Mapping

from hedgespec.config import StoreConfig
from hedgespec.errors import ConfigError
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


class MemoryStore:
    """fields: key -> incarnation -> bytes; stores that are given the same mapping share their content."""

    def __init__(self, fields: dict[str, dict[str, bytes]] | None = None, on_event: OnEvent = ignore_event) -> None:
        self._fields = {} if fields is None else fields
        self._on_event = on_event

    async def load(self, key: PreferenceKey) -> dict[str, PreferenceRecord]:
        return readable_records(self._fields.get(str(key), {}), self._on_event)

    async def save(self, key: PreferenceKey, incarnation: str, record: PreferenceRecord) -> None:
        fields = self._fields.setdefault(str(key), {})
        data = replacement(fields, checked_incarnation(incarnation), record, self._on_event)
        if data is not None:
            fields[incarnation] = data

    async def fold(self, key: PreferenceKey, unchanged: Mapping[str, int], oldest_bucket_s: int) -> None:
        fields = self._fields.get(str(key), {})
        folded = fold_fields(fields, unchanged, oldest_bucket_s)
        if folded is not None:
            fields[FOLDED_FIELD], replaced = folded
            for name in replaced:
                del fields[name]

    async def close(self) -> None:
        """Nothing to close."""


def from_url(url: str, config: StoreConfig, on_event: OnEvent) -> MemoryStore:
    if url != "memory://":
        raise ConfigError(f"The store URL {url!r} is not memory://, which takes nothing more.")
    return MemoryStore(on_event=on_event)
