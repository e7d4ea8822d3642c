"""Stores share what they do with the raw fields of one key (incarnation -> bytes); they differ in where the fields lie."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal

from hedgespec.errors import CorruptRecord, RecordFolded, StoreError
from hedgespec.store.codec import decode, encode, is_newer_schema
from hedgespec.store.record import FoldMark, PreferenceRecord, merged, process_and_number

StoreEvent = Literal[
    "corrupt_record",  # a field that fails its checks
    "newer_schema",  # a field that a newer version wrote
    "stale_save",  # the stored record has a higher sequence
    "load_failed",
    "save_failed",
    "fold_failed",
    "update_dropped",  # statistics that will never be written
]
OnEvent = Callable[[StoreEvent], None]
"""Called in the event loop for everything that is left out, refused or lost, so that a metric can count it."""

FOLDED_FIELD = "+folded"
"""The sum of incarnations that no longer write; its sequence rises with every fold."""

_INCARNATION = re.compile(r"[A-Za-z0-9._-]{1,64}")


def ignore_event(event: StoreEvent) -> None:
    """Stand in for a metric where nothing is counted."""


def checked_incarnation(incarnation: str) -> str:
    """Return the name. Raises StoreError when it could be confused with a field of our own."""
    if not _INCARNATION.fullmatch(incarnation):
        raise StoreError(f"An incarnation is 1 to 64 characters of A-Z a-z 0-9 . _ -, got {incarnation!r}.")
    return incarnation


def readable_records(fields: Mapping[str, bytes], on_event: OnEvent) -> dict[str, PreferenceRecord]:
    """Decode the fields that pass their checks; the others are counted and left as they are."""
    records = {}
    for name, data in fields.items():
        try:
            records[name] = decode(data)
        except CorruptRecord:
            on_event("newer_schema" if is_newer_schema(data) else "corrupt_record")
    return records


def replacement(
    fields: Mapping[str, bytes], incarnation: str, record: PreferenceRecord, on_event: OnEvent
) -> bytes | None:
    """Return the bytes to write over an incarnation's field; None leaves it as it is.

    fields: those of `incarnation` and FOLDED_FIELD, where they exist; others are ignored
    A damaged field is overwritten: its owner holds the truth. Raises RecordFolded when a fold has taken the field, and
    StoreError for a record that is too large.
    """
    stored = fields.get(incarnation)
    if stored is not None and is_newer_schema(stored):
        on_event("newer_schema")
        return None
    if _folded(fields).mark_of(incarnation) is not None:
        raise RecordFolded(f"Incarnation {incarnation!r} has been folded; save what is new under another name.")
    try:
        if stored is not None and decode(stored).sequence > record.sequence:
            on_event("stale_save")
            return None
    except CorruptRecord:
        on_event("corrupt_record")
    return encode(record)


def fold_fields(
    fields: Mapping[str, bytes], unchanged: Mapping[str, int], oldest_bucket_s: int
) -> tuple[bytes, list[str]] | None:
    """Return the new FOLDED_FIELD and the fields that it replaces, or None when there is nothing to fold.

    unchanged: incarnation -> sequence that its record must still have
    oldest_bucket_s: buckets that start earlier are forgotten, and so are the marks of what had only such buckets
    The mark of what was folded lasts as long as its sums: until then a late save raises RecordFolded.
    Fields that cannot be read stay where they are. Raises CorruptRecord when FOLDED_FIELD itself cannot be read (adding
    to it would lose what it holds), and StoreError when it has grown too large.
    """
    folded = decode(fields[FOLDED_FIELD]) if FOLDED_FIELD in fields else PreferenceRecord()
    candidates = {name: fields[checked_incarnation(name)] for name in unchanged if name in fields}
    readable = readable_records(candidates, ignore_event)
    records = {name: record for name, record in readable.items() if record.sequence == unchanged[name]}
    if not records:
        return None
    total = merged((folded, *records.values()), folded.sequence + 1)
    new = PreferenceRecord(total.sequence, total.buckets, _marked(folded.folded, records))
    return encode(new.since(oldest_bucket_s)), sorted(records)


def _marked(marks: Mapping[str, FoldMark], records: Mapping[str, PreferenceRecord]) -> dict[str, FoldMark]:
    """Return the marks after these records have been folded: one per process, so they stay few."""
    marked = dict(marks)
    for name, record in records.items():
        process, number = process_and_number(name)
        if record.buckets and (process not in marked or marked[process].number < number):
            marked[process] = FoldMark(number, record.sequence, max(record.buckets))
    return marked


def _folded(fields: Mapping[str, bytes]) -> PreferenceRecord:
    try:
        return decode(fields[FOLDED_FIELD]) if FOLDED_FIELD in fields else PreferenceRecord()
    except CorruptRecord:
        return PreferenceRecord()  # what it held is lost already; saving must go on
