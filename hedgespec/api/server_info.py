"""GET /v1/models, /health, /version and /metrics: what the server says about itself."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hedgespec.api.context import ApiContext
from hedgespec.errors import RequestError
from hedgespec.observability.metrics import CONTENT_TYPE


async def health(context: ApiContext, request: Request) -> Response:
    """Answer 200 when requests can be served. Like version and metrics it needs no key: probes and scrapers have none."""
    if not context.is_ready():
        raise RequestError(
            "The model replicas are not ready yet.",
            status=503,
            code="not_ready",
            type="service_unavailable_error",
            headers={"Retry-After": "1"},
        )
    return JSONResponse({"status": "ok"})


async def version(context: ApiContext, request: Request) -> Response:
    return JSONResponse({"version": context.version})


async def metrics(context: ApiContext, request: Request) -> Response:
    return Response(context.metrics.render(), media_type=CONTENT_TYPE)


async def models(context: ApiContext, request: Request) -> Response:
    context.authenticate(request)
    return JSONResponse({"object": "list", "data": [_model(context)]})


async def model(context: ApiContext, request: Request) -> Response:
    context.authenticate(request)
    context.check_model(request.path_params["model_id"])
    return JSONResponse(_model(context))


def _model(context: ApiContext) -> dict[str, object]:
    return {
        "id": context.model_name,
        "object": "model",
        "created": context.created,
        "owned_by": "hedgespec",
        "root": context.model_name,
        "parent": None,
        "max_model_len": context.tokenizer.max_model_len,
    }
