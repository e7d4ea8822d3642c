"""The codec writes records as bytes and reads them back. Stored bytes are untrusted: they are checked and never unpickled.

    magic "HSPR" | schema u16 | payload size u32 | CRC-32 u32 of everything else | payload, JSON     (big endian)

The header is the same for all schemas, so that a reader can tell a newer record from a damaged one.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from typing import Any

from hedgespec.errors import CorruptRecord, StoreError
from hedgespec.store.record import SCHEMA, DrafterTotals, FoldMark, PreferenceRecord

MAX_RECORD_BYTES = 1 << 20

_MAGIC = b"HSPR"
_HEADER = struct.Struct(">4sHII")
_RELATIVE_ROUNDING = 1e-6


def encode(record: PreferenceRecord) -> bytes:
    """Raises StoreError when the record has outgrown MAX_RECORD_BYTES."""
    buckets = {
        str(bucket_s): {name: [t.wins, t.passes, t.tokens, t.count] for name, t in totals.items()}
        for bucket_s, totals in record.buckets.items()
    }
    content: dict[str, Any] = {"sequence": record.sequence, "buckets": buckets}
    if record.folded:
        content["folded"] = {
            process: [mark.number, mark.sequence, mark.newest_bucket_s] for process, mark in record.folded.items()
        }
    payload = json.dumps(content, separators=(",", ":")).encode("ascii")
    if _HEADER.size + len(payload) > MAX_RECORD_BYTES:
        raise StoreError(f"A preference record of {len(payload)} bytes is too large; keep fewer or wider time buckets.")
    return _HEADER.pack(_MAGIC, SCHEMA, len(payload), _crc(SCHEMA, payload)) + payload


def decode(data: bytes) -> PreferenceRecord:
    """Raises CorruptRecord for anything that `encode` of this schema would not have written."""
    schema, payload = _opened(data)
    if schema != SCHEMA:
        raise CorruptRecord(f"A preference record has schema {schema}, this version reads {SCHEMA}.")
    try:
        content = json.loads(payload, parse_constant=_refuse_constant)
        buckets = {
            _whole(int(bucket_s)): {str(name): _totals(values) for name, values in totals.items()}
            for bucket_s, totals in content["buckets"].items()
        }
        folded = {str(process): FoldMark(*map(_whole, values)) for process, values in content.get("folded", {}).items()}
        return PreferenceRecord(_whole(content["sequence"]), buckets, folded)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise CorruptRecord(f"A preference record has impossible content: {error}.") from error


def is_newer_schema(data: bytes) -> bool:
    """Whether this is an intact record that a newer version has written."""
    try:
        return _opened(data)[0] > SCHEMA
    except CorruptRecord:
        return False


def _opened(data: bytes) -> tuple[int, bytes]:
    """The schema and the payload of an intact record of any schema. Raises CorruptRecord."""
    if not _HEADER.size <= len(data) <= MAX_RECORD_BYTES:
        raise CorruptRecord(f"A preference record has {len(data)} bytes, at most {MAX_RECORD_BYTES} are allowed.")
    magic, schema, size_bytes, crc = _HEADER.unpack_from(data)
    payload = data[_HEADER.size :]
    if magic != _MAGIC:
        raise CorruptRecord("A preference record does not start with its magic.")
    if len(payload) != size_bytes:
        raise CorruptRecord(f"A preference record announces {size_bytes} bytes of content and has {len(payload)}.")
    if crc != _crc(schema, payload):
        raise CorruptRecord("A preference record fails its checksum.")
    return schema, payload


def _crc(schema: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(struct.pack(">HI", schema, len(payload))))


def _totals(values: Any) -> DrafterTotals:
    wins, passes, tokens, count = values
    totals = DrafterTotals(float(wins), float(passes), _whole(tokens), _whole(count))
    if not (math.isfinite(totals.wins) and math.isfinite(totals.passes) and totals.wins >= 0 and totals.passes >= 0):
        raise ValueError(f"wins {wins} or passes {passes} are negative or not finite")
    # every pass emits a token, and an answer is won at most once: larger sums were not written by us
    slack = 1.0 + _RELATIVE_ROUNDING
    if totals.wins > totals.count * slack or totals.passes > totals.tokens * slack:
        raise ValueError(f"{wins} wins in {count} answers, or {passes} passes for {tokens} tokens")
    return totals


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise ValueError(f"{value!r} is not a count")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")
