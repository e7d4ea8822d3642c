"""How many cores this process may use: the smaller of its CPU set and the container's quota."""

from __future__ import annotations

import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""What a container may use (control groups, version 2): microseconds of CPU time per period, or `max`, and the period."""


def available_cores(quota_file: Path = _QUOTA) -> int:
    """Count the cores, at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text(encoding="ascii").split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or no limit
        return cores
