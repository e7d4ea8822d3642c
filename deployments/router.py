"""One replica of the router: HTTP ingress, decode loop and learner. It imports neither torch nor transformers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from ray import serve
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from deployments.fleet import ServeFleet
from deployments.replicas import limit_threads
from hedgespec.api.app import create_app
from hedgespec.assembly.model_sources import load_tokenizer, served_name, target_identity
from hedgespec.config import AppArgs
from hedgespec.observability.logging import configure_logging
from hedgespec.observability.metrics import Metrics
from hedgespec.router.service import GenerationService
from hedgespec.rpc.channel import TlsFiles
from hedgespec.store.fields import open_store
from hedgespec.store.preferences import Preferences
from hedgespec.tenancy.tenants import Tenants
from hedgespec.types import GenerationChunk, GenerationRequest

if TYPE_CHECKING:
    from fastapi import FastAPI


class ServeLeasing:
    """Leases replicas of one deployment; Serve chooses the replica."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle.options(stream=True)

    def lease(self) -> DeploymentResponseGenerator:
        """Implements `fleet.Leasing.lease`."""
        return self._handle.lease.remote()


class RouterReplica:
    """The HTTP ingress of the application, with its own event loop, fleet, learner and preferences.

    target, drafters: handles of the model deployments; one handle may serve a group of drafters
    """

    async def __init__(self, args: AppArgs, target: DeploymentHandle, drafters: tuple[DeploymentHandle, ...]) -> None:
        limit_threads(1)
        configure_logging("json")
        self._args = args
        self._drafter_ids = tuple(d.id for d in args.drafters)
        self._tokenizer = await asyncio.to_thread(load_tokenizer, args.target)
        self._metrics = Metrics(served_name(args.target), self._drafter_ids, _replica_id())
        store = open_store(args.store, args.store_url, self._metrics.store_failed)
        self._preferences = Preferences(store, args.store, on_event=self._metrics.store_failed)
        self._fleet = ServeFleet(
            ServeLeasing(target),
            [ServeLeasing(handle) for handle in drafters],
            self._drafter_ids,
            args.speculation.open_deadline_s,
            TlsFiles.from_environment(),
        )
        self._service = GenerationService(
            args,
            self._fleet,
            self._tokenizer,
            self._preferences,
            self._metrics,
            await asyncio.to_thread(target_identity, args.target),
        )
        self._fleet.start()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationChunk, None]:
        """Answer a caller inside the Ray cluster without HTTP, through a streaming handle call."""
        async with aclosing(self._service.generate(request)) as chunks:
            async for chunk in chunks:
                yield chunk

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Make the HTTP application; Serve calls this after the constructor and sends requests to the result."""
        return create_app(
            self._service,
            self._tokenizer,
            Tenants.from_file(self._args.keys_file, time.monotonic),
            self._metrics,
            self._args.limits,
            served_name(self._args.target),
            version=_version(),
            is_ready=lambda: self._fleet.is_ready,
        )

    async def check_health(self) -> None:
        """Succeed when the event loop that runs the rounds gets to this call: a blocked loop is an unhealthy replica."""
        await asyncio.sleep(0)

    async def __del__(self) -> None:
        await self._service.drain()
        await self._preferences.close()
        await self._fleet.close()


def _replica_id() -> str:
    try:
        return str(serve.get_replica_context().replica_id.unique_id)
    except RayServeException:  # local testing mode
        return "local"


def _version() -> str:
    try:
        return version("hedgespec")
    except PackageNotFoundError:
        return "0+source"
