"""A computation on buffers of its own that is replayed: as a CUDA graph on CUDA, by computing it again elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch

T = TypeVar("T")

WARM_UP_RUNS = 2
"""Before a capture: libraries choose kernels and allocate workspace on the first calls, which a graph must not contain."""


class Replay(Generic[T]):
    """compute: reads its inputs from buffers, never waits for the device, and returns tensors.

    What a replay returns is overwritten by the next replay of any graph of the same pool.
    """

    def __init__(self, compute: Callable[[], T], device: torch.device, pool: Any = None) -> None:
        """pool: of `torch.cuda.graph_pool_handle`; graphs that never run at the same time share one."""
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
