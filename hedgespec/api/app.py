"""The FastAPI application: routes, error handlers and the boundary, nothing else."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Sequence

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from hedgespec.api import generation, operations
from hedgespec.api.admission import Admission
from hedgespec.api.boundary import Boundary
from hedgespec.api.context import ApiContext
from hedgespec.api.errors import as_request_error, error_response
from hedgespec.config import LimitsConfig
from hedgespec.errors import HedgeSpecError
from hedgespec.observability.metrics import Metrics
from hedgespec.protocols import Generator
from hedgespec.tenancy.tenants import Tenants
from hedgespec.tokenization import Tokenizer

Endpoint = Callable[[ApiContext, Request], Awaitable[Response]]

ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("POST", "/v1/completions", generation.complete),
    ("POST", "/v1/chat/completions", generation.chat),
    ("GET", "/v1/models", operations.models),
    ("GET", "/v1/models/{model_id:path}", operations.model),
    ("POST", "/tokenize", operations.tokenize),
    ("POST", "/detokenize", operations.detokenize),
    ("GET", "/health", operations.health),
    ("GET", "/version", operations.version),
    ("GET", "/metrics", operations.metrics),
)
"""All public paths; everything else is 404."""


def new_request_id() -> str:
    return secrets.token_hex(16)


def create_app(
    generator: Generator,
    tokenizer: Tokenizer,
    tenants: Tenants,
    metrics: Metrics,
    limits: LimitsConfig,
    model_name: str,
    drafter_ids: Sequence[str],
    *,
    version: str,
    is_ready: Callable[[], bool] = lambda: True,
    keep_alive_s: float = 15.0,
    now: Callable[[], float] = time.time,
    request_id: Callable[[], str] = new_request_id,
) -> FastAPI:
    """Serve one model. now and request_id are passed in so that a test can fix every byte of an answer."""
    context = ApiContext(
        generator=generator,
        tokenizer=tokenizer,
        tenants=tenants,
        metrics=metrics,
        limits=limits,
        admission=Admission(limits.max_concurrent_per_tenant),
        model_name=model_name,
        drafter_ids=tuple(drafter_ids),
        is_ready=is_ready,
        version=version,
        now=now,
        created=int(now()),
        keep_alive_s=keep_alive_s,
    )
    app = FastAPI(
        title="HedgeSpec", version=version, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False
    )
    for method, path, endpoint in ROUTES:
        app.add_api_route(path, _bind(endpoint, context), methods=[method], name=endpoint.__name__, response_model=None)
    app.add_exception_handler(HedgeSpecError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_error)
    app.add_middleware(Boundary, metrics=metrics, new_request_id=request_id)
    return app


def _bind(endpoint: Endpoint, context: ApiContext) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        return await endpoint(context, request)

    return handle


async def _answer_error(request: Request, error: Exception) -> Response:
    known = as_request_error(error)
    if known.status == 500:
        raise error  # the boundary logs and answers what nobody expected
    return error_response(known)
