"""Ids, probabilities and sparse rows of messages are checked in Python integers first and then converted to arrays.

Whatever a peer sends, a `read_*` function returns a well-formed array or raises the given exception. Checks that need the
model (ids below the vocabulary, positions that fit the session) are the model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from hedgespec.errors import HedgeSpecError
from hedgespec.rpc.v1 import replica_pb2 as pb
from hedgespec.types import MAX_SPARSE_IDS, SparseRows

SUM_TOLERANCE = 1e-3

SMALL = 64
"""Up to this many numbers, a check in Python is faster than two NumPy reductions."""

_F4, _I4 = np.dtype("<f4"), np.dtype("<i4")


def write_rows(message: pb.SparseRows, rows: SparseRows) -> None:
    """Write sparse rows as lengths, ids and probabilities."""
    message.lengths.extend(np.diff(rows.offsets).tolist())
    message.ids = np.asarray(rows.ids, dtype="<i4").tobytes()
    message.probs = float_bytes(rows.probs)


def read_rows(message: pb.SparseRows, num_rows: int, error: type[HedgeSpecError], *, is_complete: bool) -> SparseRows:
    """Return num_rows well-formed rows or raise `error`.

    is_complete: every row must sum to 1 (a draft distribution), else at most to 1 (a target's top ids)
    """
    lengths = message.lengths[:]
    require(len(lengths) == num_rows, error, "lengths", f"{num_rows} long")
    require(max(lengths, default=0) <= MAX_SPARSE_IDS, error, "lengths", f"at most {MAX_SPARSE_IDS} each")
    num_entries = sum(lengths)
    require(len(message.ids) == 4 * num_entries, error, "ids", f"{4 * num_entries} bytes long")
    ids = np.frombuffer(message.ids, _I4)
    probs = np.frombuffer(message.probs, _F4) if len(message.probs) % 4 == 0 else np.zeros(0, np.float32)
    require(len(probs) == num_entries, error, "probs", f"{4 * num_entries} bytes long")
    offsets = np.array([0, *accumulate(lengths)], dtype=np.int32)
    require(not is_complete or all(lengths), error, "lengths", "positive")
    if num_entries:
        require(bool(np.minimum.reduce(ids) >= 0), error, "ids", "non-negative")
        cumulated = np.zeros(num_entries + 1)
        np.cumsum(probs, dtype=np.float64, out=cumulated[1:])
        # the smallest of anything and a NaN is a NaN; without negative entries a row's sum bounds each of them
        is_ok = np.minimum.reduce(probs) >= 0.0 and cumulated[-1] <= num_rows * (1.0 + SUM_TOLERANCE)
        require(bool(is_ok), error, "probs", "finite and in 0..1")
        bounds = cumulated[offsets]
        sums = (bounds[1:] - bounds[:-1]).tolist()
        require(max(sums) <= 1.0 + SUM_TOLERANCE, error, "probs", "rows that sum to at most 1")
        require(not is_complete or min(sums) >= 1.0 - SUM_TOLERANCE, error, "probs", "rows that sum to 1")
    return SparseRows(offsets, ids, probs)


def read_ids(values: Sequence[int], error: type[HedgeSpecError], name: str) -> NDArray[np.int32]:
    """Return non-negative token ids or raise `error`."""
    listed = values[:]  # a list: NumPy reads a repeated field item by item
    if listed and min(listed) < 0:
        raise error(f"{name} on the wire must be non-negative.")
    return np.array(listed, dtype=np.int32)


def read_probs(
    data: bytes, count: int, error: type[HedgeSpecError], name: str, maximum: float = 1.0
) -> NDArray[np.float32]:
    """Return `count` finite numbers in 0..maximum or raise `error`."""
    if len(data) != 4 * count:
        raise error(f"{name} on the wire must be {4 * count} bytes long.")
    probs = np.frombuffer(data, _F4)
    if count == 0:
        return probs
    limit = maximum + SUM_TOLERANCE
    # a sum refuses NaN, which min and max may overlook; short arrays are faster in Python
    values = probs.tolist() if count <= SMALL else (float(probs.min()), float(probs.max()), float(probs.sum()) / count)
    if not (min(values) >= 0.0 and max(values) <= limit and sum(values) <= limit * len(values)):
        raise error(f"{name} on the wire must be finite and in 0..{maximum:g}.")
    return probs


def float_bytes(values: NDArray[np.float32]) -> bytes:
    """Return float32 values as little-endian bytes."""
    return np.asarray(values, _F4).tobytes()


def require(condition: bool, error: type[HedgeSpecError], name: str, rule: str) -> None:
    """Raise `error` with the message that `name` must be `rule`, unless the condition holds."""
    if not condition:
        raise error(f"{name} on the wire must be {rule}.")
