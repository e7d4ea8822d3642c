"""The autoscaling policy of drafters. It runs in Serve's controller, so nothing heavy is imported here."""

from __future__ import annotations

import math
from typing import Any

SESSIONS_STAT = "sessions"


class SessionsPolicy:
    """As many replicas as the recorded session counts need, target_sessions each."""

    def __init__(self, target_sessions: float) -> None:
        self._target_sessions = target_sessions

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """context: ray.serve's AutoscalingContext -> (number of replicas, policy state)."""
        recorded = (context.aggregated_metrics or {}).get(SESSIONS_STAT, {})
        return max(1, math.ceil(sum(recorded.values()) / self._target_sessions)), {}
