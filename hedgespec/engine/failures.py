"""What a caller sees when a model's library raises."""

from __future__ import annotations

import structlog

from hedgespec.errors import HedgeSpecError, ReplicaLost
from hedgespec.observability.logging import failure_fields

log = structlog.get_logger(__name__)


def as_own_error(error: Exception, role: str) -> HedgeSpecError:
    """Our exceptions as they are, any other as a ReplicaLost that names and chains it.

    Others are logged with the place where they were raised: requests go on without a drafter that failed, and nobody
    would notice.
    """
    if isinstance(error, HedgeSpecError):
        return error
    log.error("model_failed", reason=role, **failure_fields(error))
    lost = ReplicaLost(f"The {role} failed: {type(error).__name__}: {error}")
    lost.__cause__ = error
    return lost
