"""Capture CUDA graphs when a replica starts; a model that cannot be captured is served without them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import structlog
from rich.console import Console
from rich.progress import Progress

from hedgespec.config import ReplicaConfig
from hedgespec.observability.logging import failure_fields

log = structlog.get_logger(__name__)

LANES_SHARE = 0.5
"""Rows of all lanes together, as a share of max_cached_tokens; they take memory besides it."""

UseGraphs = Callable[[int, int, Callable[[int], None]], int]
"""A graphs door: (number of lanes, rows of each, callback after each capture with the number of all) -> that number."""


def decode_in_graphs(role: str, use: UseGraphs, config: ReplicaConfig) -> bool:
    """Open a graphs door; False if that failed, which is logged. role: for the progress bar and the log."""
    started = time.monotonic()
    capacity = max(int(LANES_SHARE * config.max_cached_tokens) // config.max_sessions, 1)
    try:
        with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
            bar = progress.add_task(f"{role}: CUDA graphs", total=None)
            num_graphs = use(config.max_sessions, capacity, lambda total: progress.update(bar, advance=1, total=total))
    except Exception as error:  # torch, a kernel, or the model's own code
        log.error("graphs_not_captured", reason=role, **failure_fields(error))
        return False
    log.info("graphs_captured", reason=role, count=num_graphs, seconds=round(time.monotonic() - started, 1))
    return True
