"""Our exceptions travel as `Error` items, so that a remote failure raises what a local one would."""

from __future__ import annotations

from hedgespec.errors import (
    HedgeSpecError,
    InvalidDraft,
    InvalidObservation,
    ReplicaBusy,
    ReplicaLost,
    RequestError,
    UnknownSession,
)
from hedgespec.rpc.v1 import replica_pb2 as pb

_KINDS: tuple[tuple[type[HedgeSpecError], pb.Error.Kind], ...] = (
    (ReplicaBusy, pb.Error.KIND_BUSY),
    (UnknownSession, pb.Error.KIND_UNKNOWN_SESSION),
    (InvalidDraft, pb.Error.KIND_INVALID_DRAFT),
    (InvalidObservation, pb.Error.KIND_INVALID_OBSERVATION),
    (RequestError, pb.Error.KIND_INVALID_REQUEST),
)
_ERRORS = {kind: error for error, kind in _KINDS}
MAX_MESSAGE_LENGTH = 512


def write_error(message: pb.Error, error: Exception, in_reply_to: int) -> None:
    """Write an error. Of a foreign one only the type's name travels: its text may hold a prompt or a path."""
    message.in_reply_to = in_reply_to
    for error_type, kind in _KINDS:
        if isinstance(error, error_type):
            message.kind = kind
            message.message = str(error)[:MAX_MESSAGE_LENGTH]
            return
    message.kind = pb.Error.KIND_INTERNAL
    message.message = type(error).__name__


def read_error(message: pb.Error, address: str) -> HedgeSpecError:
    """Return the exception; KIND_INTERNAL and unknown kinds become ReplicaLost, since the session is over."""
    error = _ERRORS.get(message.kind)
    if error is None:
        return ReplicaLost(f"The replica at {address} failed internally ({message.message}).")
    return error(message.message)
