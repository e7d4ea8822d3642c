"""The autoscaling policy of drafters. It runs in Serve's controller, so this module imports nothing heavy."""

from __future__ import annotations

import math
from typing import Any

SESSIONS_STAT = "sessions"


class SessionsPolicy:
    """Use as many replicas as the recorded sessions need, with target_sessions each."""

    def __init__(self, target_sessions: float) -> None:
        self._target_sessions = target_sessions

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """Return (number of replicas, policy state). context: ray.serve's AutoscalingContext."""
        recorded = (context.aggregated_metrics or {}).get(SESSIONS_STAT, {})
        return max(1, math.ceil(sum(recorded.values()) / self._target_sessions)), {}
