"""The FastAPI application puts routes, error handlers and the boundary together."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from hedgespec.api import endpoints
from hedgespec.api.boundary import Boundary
from hedgespec.api.context import Admission, ApiContext
from hedgespec.api.errors import as_request_error, error_response
from hedgespec.api.schemas import ChatBody, CompletionBody, with_sampling_parameters
from hedgespec.config import LimitsConfig
from hedgespec.errors import HedgeSpecError
from hedgespec.observability.metrics import Metrics
from hedgespec.protocols import Generator
from hedgespec.tenancy.tenants import Tenants
from hedgespec.tokenization import Tokenizer

Endpoint = Callable[[ApiContext, Request], Awaitable[Response]]

ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("POST", "/v1/completions", endpoints.complete),
    ("POST", "/v1/chat/completions", endpoints.chat),
    ("GET", "/v1/models", endpoints.models),
    ("GET", "/v1/models/{model_id:path}", endpoints.model),
    ("POST", "/tokenize", endpoints.tokenize),
    ("POST", "/detokenize", endpoints.detokenize),
    ("GET", "/health", endpoints.health),
    ("GET", "/version", endpoints.version),
    ("GET", "/metrics", endpoints.metrics),
)
"""Every public path; all others answer 404."""


def create_app(
    generator: Generator,
    tokenizer: Tokenizer,
    tenants: Tenants,
    metrics: Metrics,
    limits: LimitsConfig,
    model_name: str,
    *,
    version: str,
    is_ready: Callable[[], bool] = lambda: True,
    keep_alive_s: float = 15.0,
    now: Callable[[], float] = time.time,
    request_id: Callable[[], str] = lambda: secrets.token_hex(16),
) -> FastAPI:
    """Make the application that serves one model.

    is_ready: whether requests can be served, for /health
    keep_alive_s: silence on a stream after which a comment line is sent
    now, request_id: passed in so that a test can fix every byte of an answer
    Raises ConfigError for sampling parameters of installed packages that cannot be served.
    """
    for schema in (CompletionBody, ChatBody):
        with_sampling_parameters(schema)
    context = ApiContext(
        generator=generator,
        tokenizer=tokenizer,
        tenants=tenants,
        metrics=metrics,
        limits=limits,
        admission=Admission(limits.max_concurrent_per_tenant),
        model_name=model_name,
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
        raise error  # the boundary logs and answers what is unexpected
    return error_response(known)
