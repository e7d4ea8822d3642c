"""Errors of a model's library are turned into our own exceptions before a caller sees them."""

from __future__ import annotations

import structlog

from hedgespec.errors import HedgeSpecError, ReplicaLost
from hedgespec.observability.logging import failure_fields

log = structlog.get_logger(__name__)


def as_own_error(error: Exception, role: str) -> HedgeSpecError:
    """Return one of our exceptions as it is, and any other as a ReplicaLost that names and chains it.

    Others are logged with their file and line: requests go on without a drafter that failed, so only the log says why.
    """
    if isinstance(error, HedgeSpecError):
        return error
    log.error("model_failed", reason=role, **failure_fields(error))
    lost = ReplicaLost(f"The {role} failed: {type(error).__name__}: {error}")
    lost.__cause__ = error
    return lost
