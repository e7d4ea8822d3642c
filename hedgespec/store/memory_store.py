"""`memory://` keeps preferences that end with the process, for tests and for runs that should leave nothing behind."""

from __future__ import annotations

from hedgespec.config import StoreConfig
from hedgespec.errors import ConfigError
from hedgespec.store.fields import Change, Fields, FieldStore, OnEvent, ignore_event


class MemoryStore(FieldStore):
    """fields: key -> incarnation -> bytes; stores that are given the same mapping share their content."""

    def __init__(self, fields: dict[str, dict[str, bytes]] | None = None, on_event: OnEvent = ignore_event) -> None:
        super().__init__(on_event)
        self._fields = {} if fields is None else fields

    async def _read(self, key: str) -> Fields:
        return self._fields.get(key, {})

    async def _change(self, key: str, change: Change, *names: str) -> None:
        fields = self._fields.setdefault(key, {})
        written, removed = change(fields)
        fields |= written
        for name in removed:
            del fields[name]

    async def close(self) -> None:
        """Nothing to close."""


def from_url(url: str, config: StoreConfig, on_event: OnEvent) -> MemoryStore:
    if url != "memory://":
        raise ConfigError(f"The store URL {url!r} is not memory://, which takes nothing more.")
    return MemoryStore(on_event=on_event)
