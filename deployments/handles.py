"""Serve handles as the fleet sees them."""

from __future__ import annotations

from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator


class ServeLeasing:
    """Leases replicas of one deployment; Serve chooses the replica."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle.options(stream=True)

    def lease(self) -> DeploymentResponseGenerator:
        return self._handle.lease.remote()
