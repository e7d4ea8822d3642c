"""Settings of the C allocator that make training on a CPU faster."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Make glibc keep large freed blocks instead of returning them to the system.

    A training step allocates the same large buffers again and again; fetching fresh zeroed pages each time was measured
    to take half of a step. Does nothing on systems without glibc's `mallopt`.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_TOP_PAD, 256 * 2**20)
