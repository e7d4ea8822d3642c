"""Everything besides generation: models, health, version, metrics, tokenize, detokenize."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hedgespec.api.body import read_json_object
from hedgespec.api.context import ApiContext
from hedgespec.api.encoding import encode_chat, encode_prompt
from hedgespec.api.generation import check_model
from hedgespec.api.prompts import chat_messages, check_token_ids
from hedgespec.api.schemas import DetokenizeBody, TokenizeBody
from hedgespec.api.validation import parse_body
from hedgespec.errors import RequestError
from hedgespec.observability.metrics import CONTENT_TYPE


async def health(context: ApiContext, request: Request) -> Response:
    """200 when requests can be served. Open to everybody, like version and metrics: probes and scrapers have no key."""
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
    check_model(request.path_params["model_id"], context)
    return JSONResponse(_model(context))


async def tokenize(context: ApiContext, request: Request) -> Response:
    tenant = context.authenticate(request)
    content = await read_json_object(request, context.limits.max_body_bytes)
    body = parse_body(content, TokenizeBody, {"add_generation_prompt": (True,), "return_token_strs": (False,)})
    check_model(body.model, context)
    if (body.prompt is None) == (body.messages is None):
        raise RequestError("Send prompt or messages, and not both.", code="invalid_value", param="prompt")
    with context.admission.admit(tenant, 1):
        if body.messages is not None:
            ids = await encode_chat(context, chat_messages(body.messages, context.limits.max_messages))
        else:
            ids = await encode_prompt(context, body.prompt or "", add_special_tokens=body.add_special_tokens)
    return JSONResponse(
        {
            "tokens": ids.tolist(),
            "count": len(ids),
            "max_model_len": context.tokenizer.max_model_len,
            "token_strs": None,
        }
    )


async def detokenize(context: ApiContext, request: Request) -> Response:
    tenant = context.authenticate(request)
    content = await read_json_object(request, context.limits.max_body_bytes)
    body = parse_body(content, DetokenizeBody, {})
    check_model(body.model, context)
    check_token_ids("tokens", body.tokens, context.tokenizer.vocab_size, context.tokenizer.max_model_len)
    with context.admission.admit(tenant, 1):
        text = await asyncio.to_thread(context.tokenizer.decode, body.tokens)
    return JSONResponse({"prompt": text})


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
