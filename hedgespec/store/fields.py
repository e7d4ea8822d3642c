"""Stores share what they do with the raw fields of one key (incarnation -> bytes); they differ in where the fields lie."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from hedgespec.catalogue import STORES
from hedgespec.config import StoreConfig
from hedgespec.errors import ConfigError, CorruptRecord, RecordFolded, StoreError
from hedgespec.protocols import PreferenceStore
from hedgespec.store.codec import decode, encode, is_newer_schema
from hedgespec.store.record import FoldMark, PreferenceKey, PreferenceRecord, merged, process_and_number

StoreEvent = Literal[
    "corrupt_record",  # a field that fails its checks
    "newer_schema",  # a field that a newer version wrote
    "stale_save",  # the stored record has a higher sequence
    "load_failed",
    "save_failed",
    "fold_failed",
    "update_dropped",  # statistics that will never be written
]
Fields = Mapping[str, bytes]
"""Incarnation or FOLDED_FIELD -> the bytes of its record."""

Change = Callable[[Fields], tuple[Fields, Sequence[str]]]
"""Fields of a key -> those to write, and names of those to remove; with nothing to write, nothing is removed."""

OnEvent = Callable[[StoreEvent], None]
"""Called in the event loop for everything that is left out, refused or lost, so that a metric can count it."""

FOLDED_FIELD = "+folded"
"""The sum of incarnations that no longer write; its sequence rises with every fold."""

_INCARNATION = re.compile(r"[A-Za-z0-9._-]{1,64}")


def ignore_event(event: StoreEvent) -> None:
    """Stand in for a metric where nothing is counted."""


def open_store(config: StoreConfig, url: str, on_event: OnEvent = ignore_event) -> PreferenceStore:
    """Return a store that connects on first use: a database that is down does not keep the router from starting.

    Raises ConfigError for a URL that names no store.
    """
    scheme = url.partition(":")[0]  # nothing behind it goes into a message: it may hold a password
    if "://" not in url or scheme not in STORES.names():
        known = ", ".join(f"{name}://" for name in STORES.names())
        raise ConfigError(f"No store for scheme {scheme!r}. A store URL begins with one of {known}.")
    store: PreferenceStore = STORES.load(scheme)(url, config, on_event)
    return store


class FieldStore(ABC):
    """A `protocols.PreferenceStore` over raw fields: a subclass reads them, and changes them in one transaction."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event

    async def load(self, key: PreferenceKey) -> dict[str, PreferenceRecord]:
        return without_folded(_readable_records(await self._read(str(key)), self._on_event))

    async def save(self, key: PreferenceKey, incarnation: str, record: PreferenceRecord) -> None:
        name, events = checked_incarnation(incarnation), list[StoreEvent]()

        def change(fields: Fields) -> tuple[Fields, Sequence[str]]:
            events.clear()
            data = _replacement(fields, name, record, events.append)
            return ({} if data is None else {name: data}), ()

        await self._change(str(key), change, name, FOLDED_FIELD)
        for event in events:
            self._on_event(event)

    async def fold(self, key: PreferenceKey, unchanged: Mapping[str, int], oldest_bucket_s: int) -> None:
        await self._change(str(key), lambda fields: _folded(fields, unchanged, oldest_bucket_s))

    @abstractmethod
    async def _read(self, key: str) -> Fields:
        """Return all fields of a key. Raises StoreUnavailable."""

    @abstractmethod
    async def _change(self, key: str, change: Change, *names: str) -> None:
        """Do what `change` makes of the fields of a key, of `names` or all, while no other process writes to the key.

        Calls `change` again when one has written in between, and passes on what it raises. Raises StoreUnavailable.
        """

    @abstractmethod
    async def close(self) -> None: ...


def checked_incarnation(incarnation: str) -> str:
    """Return the name. Raises StoreError when it could be confused with a field of our own."""
    if not _INCARNATION.fullmatch(incarnation):
        raise StoreError(f"An incarnation is 1 to 64 characters of A-Z a-z 0-9 . _ -, got {incarnation!r}.")
    return incarnation


def without_folded(records: Mapping[str, PreferenceRecord]) -> dict[str, PreferenceRecord]:
    """Leave out fields that have been folded and are there again: a router of a version without marks wrote them."""
    folded = records.get(FOLDED_FIELD, PreferenceRecord())
    return {name: record for name, record in records.items() if folded.mark_of(name) is None}


def _readable_records(fields: Fields, on_event: OnEvent) -> dict[str, PreferenceRecord]:
    """Decode the fields that pass their checks; the others are counted and left as they are."""
    records = {}
    for name, data in fields.items():
        try:
            records[name] = decode(data)
        except CorruptRecord:
            on_event("newer_schema" if is_newer_schema(data) else "corrupt_record")
    return records


def _replacement(fields: Fields, incarnation: str, record: PreferenceRecord, on_event: OnEvent) -> bytes | None:
    """Return the bytes to write over an incarnation's field; None leaves it as it is.

    A damaged field is overwritten: its owner holds the truth. Raises RecordFolded when a fold has taken the field, and
    StoreError for a record that is too large.
    """
    stored = fields.get(incarnation)
    if stored is not None and is_newer_schema(stored):
        on_event("newer_schema")
        return None
    if _sum_so_far(fields).mark_of(incarnation) is not None:
        raise RecordFolded(f"Incarnation {incarnation!r} has been folded; save what is new under another name.")
    try:
        if stored is not None and decode(stored).sequence > record.sequence:
            on_event("stale_save")
            return None
    except CorruptRecord:
        on_event("corrupt_record")
    return encode(record)


def _folded(fields: Fields, unchanged: Mapping[str, int], oldest_bucket_s: int) -> tuple[Fields, Sequence[str]]:
    """Return the new FOLDED_FIELD and the names of the fields that it replaces. Arguments as of `PreferenceStore.fold`.

    The mark of what was folded lasts as long as its sums: until then a late save raises RecordFolded. A mark covers the
    older names of its process, so their fields are folded with it. Fields that cannot be read, that have an odd name or a
    mark already stay where they are. Raises CorruptRecord when FOLDED_FIELD itself cannot be read (adding to it would lose
    what it holds), and StoreError when it has grown too large.
    """
    folded = decode(fields[FOLDED_FIELD]) if FOLDED_FIELD in fields else PreferenceRecord()
    candidates = {
        name: data for name, data in fields.items() if _INCARNATION.fullmatch(name) and folded.mark_of(name) is None
    }
    readable = _readable_records({name: candidates[name] for name in unchanged if name in candidates}, ignore_event)
    records = {name: record for name, record in readable.items() if record.sequence == unchanged[name]}
    covering = PreferenceRecord(folded=_marked({}, records))
    given_up = {n: data for n, data in candidates.items() if n not in records and covering.mark_of(n) is not None}
    records |= _readable_records(given_up, ignore_event)
    if not records:
        return {}, ()
    total = merged((folded, *records.values()), folded.sequence + 1)
    new = PreferenceRecord(total.sequence, total.buckets, _marked(folded.folded, records))
    return {FOLDED_FIELD: encode(new.since(oldest_bucket_s))}, sorted(records)


def _marked(marks: Mapping[str, FoldMark], records: Mapping[str, PreferenceRecord]) -> dict[str, FoldMark]:
    """Return the marks after these records have been folded: one per process, so they stay few."""
    marked = dict(marks)
    for name, record in records.items():
        process, number = process_and_number(name)
        if record.buckets and (process not in marked or marked[process].number < number):
            marked[process] = FoldMark(number, record.sequence, max(record.buckets))
    return marked


def _sum_so_far(fields: Fields) -> PreferenceRecord:
    try:
        return decode(fields[FOLDED_FIELD]) if FOLDED_FIELD in fields else PreferenceRecord()
    except CorruptRecord:
        return PreferenceRecord()  # what it held is lost already; saving must go on
