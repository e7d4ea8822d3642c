"""Ids, probabilities, sparse rows and hidden features of messages are checked first and then converted to arrays.

Whatever a peer sends, a `read_*` function returns a well-formed array or raises the given exception. Checks that need the
model (ids below the vocabulary, positions that fit the session) are the model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from hedgespec.errors import HedgeSpecError, InvalidObservation
from hedgespec.rpc.v1 import replica_pb2 as pb
from hedgespec.types import MAX_SPARSE_IDS, FeatureBlock, SparseRows

SUM_TOLERANCE = 1e-3
MAX_SESSION_ID_LENGTH = 128
MAX_FEATURE_WIDTH = 1 << 17

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


def write_features(block: FeatureBlock) -> pb.FeatureBlock:
    """Return the block as a message; its rows are copied."""
    num_positions, width = block.rows.shape
    is_bfloat16 = block.rows.dtype == np.uint16
    rows = np.asarray(block.rows, dtype="<u2" if is_bfloat16 else "<f4")
    return pb.FeatureBlock(
        session_id=block.session_id,
        start_position=block.start_position,
        num_positions=num_positions,
        width=width,
        bfloat16=is_bfloat16,
        rows=rows.tobytes(),
    )


def read_features(message: pb.FeatureBlock) -> FeatureBlock:
    """Return the block; its rows are a read-only view of the message's bytes. Raises InvalidObservation."""
    error = InvalidObservation
    item_bytes = 2 if message.bfloat16 else 4
    size_bytes = message.num_positions * message.width * item_bytes
    require(0 < len(message.session_id) <= MAX_SESSION_ID_LENGTH, error, "session_id", "not empty")
    require(0 < message.width <= MAX_FEATURE_WIDTH, error, "width", f"1..{MAX_FEATURE_WIDTH}")
    require(message.start_position < 2**31, error, "start_position", "a position")
    require(len(message.rows) == size_bytes, error, "rows", f"{size_bytes} bytes long")
    rows = np.frombuffer(message.rows, dtype="<u2" if message.bfloat16 else "<f4")
    return FeatureBlock(message.session_id, message.start_position, rows.reshape(message.num_positions, message.width))


def float_bytes(values: NDArray[np.float32]) -> bytes:
    """Return float32 values as little-endian bytes."""
    return np.asarray(values, _F4).tobytes()


def require(condition: bool, error: type[HedgeSpecError], name: str, rule: str) -> None:
    """Raise `error` with the message that `name` must be `rule`, unless the condition holds."""
    if not condition:
        raise error(f"{name} on the wire must be {rule}.")
