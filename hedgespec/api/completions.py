"""POST /v1/completions and /v1/chat/completions: from an HTTP request to checked generation requests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from hedgespec.api import neutral
from hedgespec.api.context import ApiContext
from hedgespec.api.formats import ChatFormat, CompletionFormat, Format
from hedgespec.api.prompts import TokenIds, chat_messages, completion_prompts, encode_chat, encode_prompt
from hedgespec.api.responder import Responder
from hedgespec.api.sampling import sampling_params
from hedgespec.api.schemas import ChatBody, CompletionBody, GenerationBody, with_sampling_parameters
from hedgespec.errors import RequestError
from hedgespec.types import GenerationRequest


async def complete(context: ApiContext, request: Request) -> Response:
    """Continue one prompt, or each of several."""
    tenant, body = await context.accept(request, with_sampling_parameters(CompletionBody), neutral.COMPLETIONS)
    tokenizer = context.tokenizer
    prompts = completion_prompts(body.prompt, tokenizer.vocab_size, tokenizer.max_model_len)

    async def encode() -> list[TokenIds]:
        return [await encode_prompt(context, prompt, max_tokens=tokenizer.max_model_len) for prompt in prompts]

    return await _answer(context, request, tenant, body, body.max_tokens, len(prompts), encode, CompletionFormat())


async def chat(context: ApiContext, request: Request) -> Response:
    """Answer the last message of a conversation."""
    tenant, body = await context.accept(request, with_sampling_parameters(ChatBody), neutral.CHAT)
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
                max_tokens = max(1, min(max_tokens, tokenizer.max_model_len - len(prompt_ids)))
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
