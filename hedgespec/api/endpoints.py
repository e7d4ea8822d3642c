"""Every endpoint of the API takes the application's parts and an HTTP request and returns the response."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hedgespec.api.context import ApiContext
from hedgespec.api.errors import unavailable
from hedgespec.api.formats import ChatFormat, Format
from hedgespec.api.prompts import (
    TokenIds,
    chat_messages,
    check_token_ids,
    completion_prompts,
    encode_chat,
    encode_prompt,
    too_long,
)
from hedgespec.api.responder import Responder
from hedgespec.api.sampling import sampling_params
from hedgespec.api.schemas import (
    ChatBody,
    CompletionBody,
    DetokenizeBody,
    GenerationBody,
    TokenizeBody,
    with_sampling_parameters,
)
from hedgespec.api.validation import NEUTRAL_IN_CHAT, NEUTRAL_IN_COMPLETIONS
from hedgespec.errors import RequestError
from hedgespec.observability.metrics import CONTENT_TYPE
from hedgespec.types import GenerationRequest


async def complete(context: ApiContext, request: Request) -> Response:
    """Continue one prompt, or each of several: POST /v1/completions."""
    tenant, body = await context.accept(request, with_sampling_parameters(CompletionBody), NEUTRAL_IN_COMPLETIONS)
    tokenizer = context.tokenizer
    prompts = completion_prompts(body.prompt, tokenizer.vocab_size, tokenizer.max_model_len)

    async def encode() -> list[TokenIds]:
        return [await encode_prompt(context, prompt, max_tokens=tokenizer.max_model_len) for prompt in prompts]

    return await _answer(context, request, tenant, body, body.max_tokens, len(prompts), encode, Format())


async def chat(context: ApiContext, request: Request) -> Response:
    """Answer the last message of a conversation: POST /v1/chat/completions."""
    tenant, body = await context.accept(request, with_sampling_parameters(ChatBody), NEUTRAL_IN_CHAT)
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise RequestError(
            "Send max_tokens or max_completion_tokens, not both.", code="invalid_value", param="max_completion_tokens"
        )
    messages = chat_messages(body.messages, context.limits.max_messages)
    stated = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens

    async def encode() -> list[TokenIds]:
        return [await encode_chat(context, messages, context.tokenizer.max_model_len)]

    return await _answer(context, request, tenant, body, stated, 1, encode, ChatFormat())


async def _answer(
    context: ApiContext,
    request: Request,
    tenant: str,
    body: GenerationBody,
    stated_max_tokens: int | None,
    num_prompts: int,
    encode: Callable[[], Awaitable[list[TokenIds]]],
    form: Format,
) -> Response:
    """Check what is cheap, then admit, then tokenize. The router checks the drafter and the length of the context."""
    tokenizer, options = context.tokenizer, body.hedgespec
    sampling = sampling_params(body, stated_max_tokens, tokenizer.vocab_size, context.limits)
    if options.report and num_prompts > 1:
        raise RequestError("A report is about one prompt.", code="invalid_value", param="hedgespec.report")
    request_id: str = request.state.request_id
    async with AsyncExitStack() as work:
        work.enter_context(context.admission.admit(tenant, num_prompts))
        requests = []
        for index, prompt_ids in enumerate(await encode()):
            if not len(prompt_ids):
                raise RequestError(f"The {form.source} has no tokens.", code="invalid_value", param=form.source)
            max_tokens = sampling.max_tokens
            if stated_max_tokens is None:  # the configured default shrinks to what the context leaves
                max_tokens = min(max_tokens, tokenizer.max_model_len - len(prompt_ids))
            if max_tokens < 1:
                raise too_long(form.source, tokenizer.max_model_len)
            requests.append(
                GenerationRequest(
                    request_id=request_id if num_prompts == 1 else f"{request_id}-{index}",
                    tenant=tenant,
                    prompt_ids=prompt_ids,
                    sampling=replace(sampling, max_tokens=max_tokens),
                    scope=options.scope or "",
                    drafter=options.drafter,
                    max_draft_tokens=options.max_draft_tokens,
                )
            )
        return await Responder(context, body, form, requests, request_id).respond(request, work)


async def tokenize(context: ApiContext, request: Request) -> Response:
    """Return the ids of a prompt or of messages, as vLLM does: POST /tokenize."""
    neutral_values = {"add_generation_prompt": (True,), "return_token_strs": (False,)}
    tenant, body = await context.accept(request, TokenizeBody, neutral_values)
    if (body.prompt is None) == (body.messages is None):
        raise RequestError("Send prompt or messages, and not both.", code="invalid_value", param="prompt")
    with context.admission.admit(tenant, 1):
        if body.messages is not None:
            ids = await encode_chat(context, chat_messages(body.messages, context.limits.max_messages))
        else:
            ids = await encode_prompt(context, body.prompt or "", add_special_tokens=body.add_special_tokens)
    max_model_len = context.tokenizer.max_model_len
    return JSONResponse({"tokens": ids.tolist(), "count": len(ids), "max_model_len": max_model_len, "token_strs": None})


async def detokenize(context: ApiContext, request: Request) -> Response:
    """Return the text of token ids: POST /detokenize."""
    tenant, body = await context.accept(request, DetokenizeBody, {})
    check_token_ids("tokens", body.tokens, context.tokenizer.vocab_size, context.tokenizer.max_model_len)
    with context.admission.admit(tenant, 1):
        text = await asyncio.to_thread(context.tokenizer.decode, body.tokens)
    return JSONResponse({"prompt": text})


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


async def health(context: ApiContext, request: Request) -> Response:
    """Answer 200 when requests can be served. Like version and metrics it needs no key: probes and scrapers have none."""
    if not context.is_ready():
        raise unavailable("The model replicas are not ready yet.", "not_ready")
    return JSONResponse({"status": "ok"})


async def version(context: ApiContext, request: Request) -> Response:
    return JSONResponse({"version": context.version})


async def metrics(context: ApiContext, request: Request) -> Response:
    return Response(context.metrics.render(), media_type=CONTENT_TYPE)
