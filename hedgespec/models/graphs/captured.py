"""Run a computation on buffers of its own: on CUDA as a captured graph, elsewhere by computing it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch

T = TypeVar("T")

WARM_UP_RUNS = 2
"""Runs before a capture: the first calls choose kernels and allocate workspace, which a graph must not contain."""


class Captured(Generic[T]):
    """A computation that is captured once and run often.

    compute: reads its inputs from buffers, never waits for the device, and returns tensors. The next run of any graph of
    the same pool overwrites them.
    """

    def __init__(self, compute: Callable[[], T], device: torch.device, pool: Any = None) -> None:
        """Capture on CUDA. pool: from `torch.cuda.graph_pool_handle`; graphs that never run at the same time share one."""
        self._compute = compute
        self._graph: torch.cuda.CUDAGraph | None = None
        self._result: T | None = None
        if device.type == "cuda":
            self._capture(device, pool)

    def __call__(self) -> T:
        if self._graph is None or self._result is None:
            return self._compute()
        self._graph.replay()
        return self._result

    def _capture(self, device: torch.device, pool: Any) -> None:
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_RUNS):
                self._compute()
        torch.cuda.current_stream(device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            self._result = self._compute()
        self._graph = graph
