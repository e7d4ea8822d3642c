"""Convert blocks of hidden features to protobuf and back."""

from __future__ import annotations

import numpy as np

from hedgespec.errors import InvalidObservation
from hedgespec.rpc.convert.arrays import require
from hedgespec.rpc.convert.sessions import MAX_SESSION_ID_LENGTH
from hedgespec.rpc.v1 import replica_pb2 as pb
from hedgespec.types import FeatureBlock

MAX_FEATURE_WIDTH = 1 << 17


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
