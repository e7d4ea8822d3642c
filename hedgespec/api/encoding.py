"""Text -> token ids without holding up the event loop, and without tokenizing what cannot fit anyway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from hedgespec.api.context import ApiContext
from hedgespec.api.prompts import Prompt
from hedgespec.errors import RequestError

Ids = NDArray[np.int32]

_INLINE_CHARS = 2000
"""Shorter texts are tokenized at once: a thread would cost more than it saves."""


async def encode_prompt(
    context: ApiContext, prompt: Prompt, *, add_special_tokens: bool = True, max_tokens: int | None = None
) -> Ids:
    """max_tokens: raise RequestError as soon as it is clear that the prompt has more."""
    if isinstance(prompt, list):
        return np.asarray(prompt, dtype=np.int32)

    def encode() -> Ids:
        _check_length(context, prompt, max_tokens, "prompt")
        return context.tokenizer.encode(prompt, add_special_tokens)

    return await _run(context, len(prompt), encode)


async def encode_chat(context: ApiContext, messages: Sequence[dict[str, str]], max_tokens: int | None = None) -> Ids:
    """As `encode_prompt`, after the chat template."""

    def encode() -> Ids:
        text = context.tokenizer.render_chat(messages)
        _check_length(context, text, max_tokens, "messages")
        return context.tokenizer.encode(text, add_special_tokens=False)

    return await _run(context, sum(len(m["content"]) for m in messages), encode)


def _check_length(context: ApiContext, text: str, max_tokens: int | None, source: str) -> None:
    if max_tokens is not None and context.tokenizer.is_surely_longer(text, max_tokens):
        raise RequestError(
            f"This model's context is {max_tokens} tokens; {source} alone has more than {max_tokens}. Shorten it.",
            code="context_length_exceeded",
            param=source,
        )


async def _run(context: ApiContext, num_chars: int, encode: Callable[[], Ids]) -> Ids:
    if num_chars <= _INLINE_CHARS:
        return encode()
    async with context.encoding:
        return await asyncio.to_thread(encode)
