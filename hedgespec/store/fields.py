"""What every store does with the raw fields of one key: incarnation -> bytes. Stores differ in where these lie."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from hedgespec.errors import CorruptRecord, StoreError
from hedgespec.store.codec import decode, encode, is_newer_schema
from hedgespec.store.record import PreferenceRecord, merged

StoreEvent = Literal[
    "corrupt_record",  # a field that fails its checks
    "newer_schema",  # a field that a newer version wrote
    "stale_save",  # the stored record has a higher sequence
    "load_failed",
    "save_failed",
    "update_dropped",  # statistics that will never be written
]
OnEvent = Callable[[StoreEvent], None]
"""Told about everything that is left out, refused or lost, so that a metric can count it; in the event loop."""

FOLDED_FIELD = "+folded"
"""The sum of incarnations that will never write again; its sequence rises with every fold."""

_INCARNATION = re.compile(r"[A-Za-z0-9._-]{1,64}")


def ignore_event(event: StoreEvent) -> None:
    """For callers that do not count."""


def checked_incarnation(incarnation: str) -> str:
    """Raises StoreError for a name that could be confused with a field of our own."""
    if not _INCARNATION.fullmatch(incarnation):
        raise StoreError(f"An incarnation is 1 to 64 characters of A-Z a-z 0-9 . _ -, got {incarnation!r}.")
    return incarnation


def readable_records(fields: Mapping[str, bytes], on_event: OnEvent) -> dict[str, PreferenceRecord]:
    """The records of the fields that pass their checks; the others are counted and left as they are."""
    records = {}
    for name, data in fields.items():
        try:
            records[name] = decode(data)
        except CorruptRecord:
            on_event("newer_schema" if is_newer_schema(data) else "corrupt_record")
    return records


def replacement(stored: bytes | None, record: PreferenceRecord, on_event: OnEvent) -> bytes | None:
    """What to write over the stored bytes of an incarnation; None leaves them.

    A damaged field is overwritten: its owner holds the truth. Raises StoreError for a record that is too large.
    """
    if stored is not None and is_newer_schema(stored):
        on_event("newer_schema")
        return None
    try:
        if stored is not None and decode(stored).sequence > record.sequence:
            on_event("stale_save")
            return None
    except CorruptRecord:
        on_event("corrupt_record")
    return encode(record)


def fold_fields(fields: Mapping[str, bytes], incarnations: Iterable[str]) -> tuple[bytes, list[str]] | None:
    """The new FOLDED_FIELD and the fields that it replaces, or None when there is nothing to fold.

    Fields that cannot be read stay where they are. Raises CorruptRecord when FOLDED_FIELD itself cannot be read: adding
    to it would lose what it holds.
    """
    folded = decode(fields[FOLDED_FIELD]) if FOLDED_FIELD in fields else PreferenceRecord()
    candidates = {name: fields[checked_incarnation(name)] for name in incarnations if name in fields}
    records = readable_records(candidates, ignore_event)
    if not records:
        return None
    return encode(merged((folded, *records.values()), folded.sequence + 1)), sorted(records)
