"""What a caller sees when a model's library raises."""

from __future__ import annotations

from hedgespec.errors import HedgeSpecError, ReplicaLost


def as_own_error(error: Exception, role: str) -> HedgeSpecError:
    """Our exceptions as they are, any other as a ReplicaLost that names and chains it."""
    if isinstance(error, HedgeSpecError):
        return error
    lost = ReplicaLost(f"The {role} failed: {type(error).__name__}: {error}")
    lost.__cause__ = error
    return lost
