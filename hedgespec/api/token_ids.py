"""POST /tokenize and /detokenize, as vLLM has them."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hedgespec.api.context import ApiContext
from hedgespec.api.prompts import chat_messages, check_token_ids, encode_chat, encode_prompt
from hedgespec.api.schemas import DetokenizeBody, TokenizeBody
from hedgespec.errors import RequestError


async def tokenize(context: ApiContext, request: Request) -> Response:
    neutral = {"add_generation_prompt": (True,), "return_token_strs": (False,)}
    tenant, body = await context.accept(request, TokenizeBody, neutral)
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
    tenant, body = await context.accept(request, DetokenizeBody, {})
    check_token_ids("tokens", body.tokens, context.tokenizer.vocab_size, context.tokenizer.max_model_len)
    with context.admission.admit(tenant, 1):
        text = await asyncio.to_thread(context.tokenizer.decode, body.tokens)
    return JSONResponse({"prompt": text})
