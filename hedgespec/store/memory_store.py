"""`memory://`: preferences that end with the process, for tests and for runs that should leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterable

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
        data = replacement(fields.get(checked_incarnation(incarnation)), record, self._on_event)
        if data is not None:
            fields[incarnation] = data

    async def fold(self, key: PreferenceKey, incarnations: Iterable[str]) -> None:
        """Add the records of incarnations that will never write again up into one field."""
        fields = self._fields.get(str(key), {})
        folded = fold_fields(fields, incarnations)
        if folded is not None:
            fields[FOLDED_FIELD], replaced = folded
            for name in replaced:
                del fields[name]

    async def close(self) -> None:
        """Nothing to close."""
