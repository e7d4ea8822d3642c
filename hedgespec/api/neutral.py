"""The request parameters that are known and not supported: their neutral values are accepted, every other value is a 400
that names the parameter. A value is neutral when the answer would be the same without it; null always is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hedgespec.errors import RequestError

Neutral = Mapping[str, tuple[Any, ...]]
"""Name of a parameter -> its neutral values besides null."""


def _each(names: Sequence[str], *neutral: Any) -> Neutral:
    return dict.fromkeys(names, neutral)


_BOTH_ENDPOINTS: Neutral = {
    **_each(("allowed_token_ids", "cache_salt", "kv_transfer_params", "prompt_logprobs", "request_id")),
    **_each(("guided_choice", "guided_grammar", "guided_json", "guided_regex", "structured_outputs")),
    **_each(("bad_words", "logits_processors"), []),
    **_each(("detokenize", "skip_special_tokens", "spaces_between_special_tokens"), True),
    **_each(("early_stopping", "echo", "include_stop_str_in_output", "use_beam_search"), False),
    **_each(("logprobs", "return_token_ids", "return_tokens_as_token_ids"), False),
    **_each(("best_of", "n", "stream_interval"), 1),
    **_each(("min_tokens", "priority"), 0),
    "length_penalty": (1, 1.0),
    "min_p": (0, 0.0),
    "response_format": ({"type": "text"},),
    "truncate_prompt_tokens": (),
    "vllm_xargs": ({},),
}

COMPLETIONS: Neutral = {**_BOTH_ENDPOINTS, "add_special_tokens": (True,), "suffix": ("",)}

CHAT: Neutral = {
    **_BOTH_ENDPOINTS,
    **_each(("audio", "chat_template", "moderation", "prediction", "web_search_options")),
    **_each(("prompt_cache_key", "prompt_cache_retention")),
    **_each(("documents", "functions", "tools"), []),
    **_each(("chat_template_kwargs", "mm_processor_kwargs", "prompt_cache_options"), {}),
    **_each(("add_special_tokens", "continue_final_message", "store"), False),
    **_each(("function_call", "tool_choice"), "none", "auto"),
    "add_generation_prompt": (True,),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
    "reasoning_effort": ("none",),
    "service_tier": ("auto", "default"),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
}


def drop_neutral(body: Mapping[str, Any], known: Neutral, prefix: str = "") -> dict[str, Any]:
    """Return the body without unsupported parameters.

    known: name -> its neutral values. prefix: of the names in errors. Raises RequestError `unsupported_parameter`.
    """
    rest: dict[str, Any] = {}
    for name, value in body.items():
        if name not in known:
            rest[name] = value
        elif value is not None and not any(_is_same(value, neutral) for neutral in known[name]):
            param = f"{prefix}{name}"
            raise RequestError(
                f"This server does not support {param} (other than its neutral value). Leave it out.",
                code="unsupported_parameter",
                param=param,
            )
    return rest


def _is_same(value: Any, neutral: Any) -> bool:
    return type(value) is type(neutral) and bool(value == neutral)  # True == 1 in Python
