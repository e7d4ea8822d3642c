"""POST /v1/completions and /v1/chat/completions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from hedgespec.api import neutral
from hedgespec.api.answering import Answering
from hedgespec.api.body import read_json_object
from hedgespec.api.context import ApiContext
from hedgespec.api.encoding import encode_chat, encode_prompt
from hedgespec.api.formats import ChatFormat, CompletionFormat, Format
from hedgespec.api.prompts import chat_messages, completion_prompts
from hedgespec.api.sampling import check_drafter, fit_max_tokens, sampling_params
from hedgespec.api.schemas import ChatBody, CompletionBody, GenerationBody
from hedgespec.api.validation import parse_body
from hedgespec.errors import RequestError
from hedgespec.types import GenerationRequest

Encoded = list[NDArray[np.int32]]


async def complete(context: ApiContext, request: Request) -> Response:
    tenant = context.authenticate(request)
    content = await read_json_object(request, context.limits.max_body_bytes)
    body = parse_body(content, CompletionBody, neutral.COMPLETIONS)
    tokenizer = context.tokenizer
    check_model(body.model, context)
    prompts = completion_prompts(body.prompt, tokenizer.vocab_size, tokenizer.max_model_len)

    async def encode() -> Encoded:
        return [await encode_prompt(context, prompt, max_tokens=tokenizer.max_model_len) for prompt in prompts]

    return await _answer(context, request, tenant, body, body.max_tokens, len(prompts), encode, CompletionFormat())


async def chat(context: ApiContext, request: Request) -> Response:
    tenant = context.authenticate(request)
    content = await read_json_object(request, context.limits.max_body_bytes)
    body = parse_body(content, ChatBody, neutral.CHAT)
    check_model(body.model, context)
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise RequestError(
            "Send max_tokens or max_completion_tokens, not both.", code="invalid_value", param="max_completion_tokens"
        )
    messages = chat_messages(body.messages, context.limits.max_messages)
    stated = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens

    async def encode() -> Encoded:
        return [await encode_chat(context, messages, context.tokenizer.max_model_len)]

    return await _answer(context, request, tenant, body, stated, 1, encode, ChatFormat())


def check_model(model: str | None, context: ApiContext) -> None:
    if model is not None and model != context.model_name:
        raise RequestError(
            f"This server has no such model, only {context.model_name}.",
            status=404,
            code="model_not_found",
            param="model",
        )


async def _answer(
    context: ApiContext,
    request: Request,
    tenant: str,
    body: GenerationBody,
    stated_max_tokens: int | None,
    num_prompts: int,
    encode: Callable[[], Awaitable[Encoded]],
    form: Format,
) -> Response:
    """Everything cheap is checked before a place is taken, and a place is taken before anything is tokenized."""
    limits, tokenizer, options = context.limits, context.tokenizer, body.hedgespec
    sampling = sampling_params(body, stated_max_tokens, tokenizer.vocab_size, limits)
    check_drafter(options.drafter, context.drafter_ids)
    if options.report and num_prompts > 1:
        raise RequestError("A report is about one prompt.", code="invalid_value", param="hedgespec.report")
    request_id: str = request.state.request_id
    source = "prompt" if isinstance(form, CompletionFormat) else "messages"
    async with AsyncExitStack() as work:
        work.enter_context(context.admission.admit(tenant, num_prompts))
        requests = []
        for index, prompt_ids in enumerate(await encode()):
            if not len(prompt_ids):
                raise RequestError(f"The {source} has no tokens.", code="invalid_value", param=source)
            max_tokens = fit_max_tokens(
                len(prompt_ids), stated_max_tokens, limits.default_max_tokens, tokenizer.max_model_len, source
            )
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
        return await Answering(context, body, form, requests, request_id).respond(request, work)
