"""A router behind real HTTP in this process: uvicorn, the API, the decode loop, exact tabular models, any store."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn

from hedgespec.api.app import create_app
from hedgespec.assembly.local_service import open_local_fleet
from hedgespec.assembly.model_sources import load_tokenizer, target_identity
from hedgespec.config import AppArgs
from hedgespec.observability.metrics import Metrics
from hedgespec.router.service import GenerationService
from hedgespec.store.fields import open_store
from hedgespec.store.preferences import Preferences
from hedgespec.tenancy.tenants import Tenants

MODEL = "tabular"


@asynccontextmanager
async def http_router(args: AppArgs, tenants: Tenants) -> AsyncIterator[httpx.AsyncClient]:
    """One router incarnation; leaving the context shuts it down as a stopping replica does."""
    tokenizer, drafter_ids = load_tokenizer(args.target), tuple(d.id for d in args.drafters)
    metrics = Metrics(MODEL, drafter_ids)
    async with open_local_fleet(args) as fleet:
        preferences = Preferences(open_store(args.store, args.store_url, metrics.store_failed), args.store)
        service = GenerationService(args, fleet, tokenizer, preferences, metrics, target_identity(args.target))
        app = create_app(service, tokenizer, tenants, metrics, args.limits, MODEL, version="test")
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
        running = asyncio.create_task(server.serve(sockets=[listener]))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            async with httpx.AsyncClient(base_url=url, timeout=60.0) as client:
                yield client
        finally:
            server.should_exit = True
            await running
            await service.drain()
            await preferences.close()
