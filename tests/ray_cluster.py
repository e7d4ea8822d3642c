"""The served application with tabular models in a Ray of our own, and its replica processes by name.

Only processes that descend from this one are ever looked at or signalled.
"""

from __future__ import annotations

import gc
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from deployments.local_ray import local_ray
from hedgespec.config import AppArgs


@dataclass(frozen=True, slots=True)
class ServedApp:
    url: str

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=90.0)

    def pids(self, deployment: str) -> list[int]:
        """Process ids of the deployment's replicas."""
        title = f"ray::ServeReplica:hedgespec:{deployment}"
        # Ray pads the title, or appends the name of the method that runs
        return [pid for pid in descendants(os.getpid()) if command_line(pid).strip().partition(".")[0] == title]


@contextmanager
def served(args: AppArgs) -> Iterator[ServedApp]:
    """Start Ray and Serve on free ports, deploy, wait until it answers, and end everything."""
    port = free_port()
    try:
        with local_ray(num_cpus=4):
            from ray import serve

            from deployments.app import build

            serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config={"log_level": "ERROR"})
            serve.run(build(args), name="hedgespec", route_prefix="/")
            yield ServedApp(f"http://127.0.0.1:{port}")
    finally:
        # Ray kills its processes without waiting for them; collected here, their warnings reach no later test
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def descendants(pid: int) -> list[int]:
    """All children, grandchildren, ... of a process."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(status.rpartition(")")[2].split()[1])
    found, frontier = [], {pid}
    while frontier:
        frontier = {child for child, parent in parents.items() if parent in frontier}
        found.extend(frontier)
    return found


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
