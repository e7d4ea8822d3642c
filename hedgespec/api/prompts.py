"""Prompts and messages, from what clients write to token ids.

What needs no tokenizer is checked first, then the request is admitted, then its texts are encoded: in threads, and never
much more of them than the context could hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hedgespec.api.context import ApiContext
from hedgespec.api.errors import shown_name, wrong_value
from hedgespec.api.validation import Neutral, drop_neutral
from hedgespec.errors import RequestError

Prompt = str | list[int]
"""Text, or token ids."""

TokenIds = NDArray[np.int32]
"""[num_tokens]"""

MAX_PROMPTS = 16

_INLINE_CHARS = 2000
"""Shorter texts are tokenized at once: a thread would cost more than it saves."""

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_NEUTRAL_IN_MESSAGE: Neutral = {
    # What the openai client adds when an earlier answer of ours is sent back as history.
    **dict.fromkeys(("audio", "function_call", "name", "reasoning_content", "refusal", "tool_call_id"), ()),
    **dict.fromkeys(("annotations", "tool_calls"), ([],)),
}


def completion_prompts(prompt: str | list[Any], vocab_size: int, max_model_len: int) -> list[Prompt]:
    """Return 1 to MAX_PROMPTS checked prompts of a text, a token list, a list of texts or a list of token lists."""
    is_one = isinstance(prompt, str) or _is_token_list(prompt)
    prompts = [prompt] if is_one else prompt
    if not prompts or any(isinstance(p, str | list) and not p for p in prompts):
        raise wrong_value("prompt", "it is empty")
    if len(prompts) > MAX_PROMPTS:
        raise wrong_value("prompt", f"at most {MAX_PROMPTS} prompts per request")
    for index, item in enumerate(prompts):
        name = "prompt" if is_one else f"prompt[{index}]"
        if isinstance(item, list) and _is_token_list(item):
            check_token_ids(name, item, vocab_size, max_model_len)
        elif not isinstance(item, str):
            raise wrong_value(name, "expected text or a list of token ids", code="invalid_type")
    return list(prompts)


def check_token_ids(name: str, token_ids: Sequence[int], vocab_size: int, max_count: int) -> None:
    """Raise RequestError for ids that this model does not have, or for too many of them."""
    if len(token_ids) > max_count:
        raise too_long(name, max_count)
    if not all(type(i) is int for i in token_ids):
        raise wrong_value(name, "token ids must be whole numbers", code="invalid_type")
    if token_ids and not 0 <= min(token_ids) <= max(token_ids) < vocab_size:
        raise wrong_value(name, f"token ids must be from 0 to {vocab_size - 1}")


def chat_messages(messages: Sequence[Mapping[str, Any]], max_messages: int) -> list[dict[str, str]]:
    """Return role and plain text of every message. `developer` is the newer name of `system`."""
    if len(messages) > max_messages:
        raise wrong_value("messages", f"at most {max_messages} messages")
    return [_message(f"messages[{index}]", message) for index, message in enumerate(messages)]


async def encode_prompt(
    context: ApiContext, prompt: Prompt, *, add_special_tokens: bool = True, max_tokens: int | None = None
) -> TokenIds:
    """Return the ids of one checked prompt. max_tokens: raise RequestError as soon as it is clear that it has more."""
    if isinstance(prompt, list):
        return np.asarray(prompt, dtype=np.int32)

    def encode() -> TokenIds:
        _check_length(context, prompt, max_tokens, "prompt")
        return context.tokenizer.encode(prompt, add_special_tokens)

    return await _run(context, len(prompt), encode)


async def encode_chat(
    context: ApiContext, messages: Sequence[dict[str, str]], max_tokens: int | None = None
) -> TokenIds:
    """Return the ids of the text that the chat template makes of the messages. max_tokens: as in `encode_prompt`."""

    def encode() -> TokenIds:
        text = context.tokenizer.render_chat(messages)
        _check_length(context, text, max_tokens, "messages")
        return context.tokenizer.encode(text, add_special_tokens=False)

    return await _run(context, sum(len(m["content"]) for m in messages), encode)


def _check_length(context: ApiContext, text: str, max_tokens: int | None, source: str) -> None:
    if max_tokens is not None and context.tokenizer.is_surely_longer(text, max_tokens):
        raise too_long(source, max_tokens)


async def _run(context: ApiContext, num_chars: int, encode: Callable[[], TokenIds]) -> TokenIds:
    if num_chars <= _INLINE_CHARS:
        return encode()
    async with context.encoding:
        return await asyncio.to_thread(encode)


def _message(where: str, message: Mapping[str, Any]) -> dict[str, str]:
    fields = drop_neutral(message, _NEUTRAL_IN_MESSAGE, prefix=f"{where}.")
    unknown = next((name for name in fields if name not in ("role", "content")), None)
    if unknown is not None:
        param = f"{where}.{shown_name(unknown)}"
        raise RequestError(f"Unknown parameter: {param}.", code="unknown_parameter", param=param)
    role = fields.get("role")
    if role in ("tool", "function"):
        raise _unsupported(f"This server does not support tools, so {where}.role cannot be one.", f"{where}.role")
    if not isinstance(role, str) or role not in _ROLES:
        raise wrong_value(f"{where}.role", f"expected one of {', '.join(_ROLES)}")
    return {"role": _ROLES[role], "content": _text(f"{where}.content", fields.get("content"))}


def _text(where: str, content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise wrong_value(where, "expected text or a list of text parts", code="invalid_type")
    for index, part in enumerate(content):
        name = f"{where}[{index}]"
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise wrong_value(name, "expected {'type': 'text', 'text': ...}", code="invalid_type")
        if part["type"] != "text":
            raise _unsupported(f"This server takes text only, not the kind of {name}.", f"{name}.type")
        if set(part) != {"type", "text"} or not isinstance(part["text"], str):
            raise wrong_value(name, "expected exactly type and text")
    return "\n".join(part["text"] for part in content)


def _is_token_list(value: Any) -> bool:
    # The first item decides; the others are checked against it, so that a mixed list is named as such.
    return isinstance(value, list) and bool(value) and not isinstance(value[0], str | list | dict)


def _unsupported(message: str, param: str) -> RequestError:
    return RequestError(message, code="unsupported_parameter", param=param)


def too_long(param: str, max_tokens: int) -> RequestError:
    """The error for a prompt that leaves no room for an answer."""
    return RequestError(
        f"This model's context is {max_tokens} tokens; {param} alone has more, or leaves no room for an answer. Shorten it.",
        code="context_length_exceeded",
        param=param,
    )
