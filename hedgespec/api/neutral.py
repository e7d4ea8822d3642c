"""The request parameters that are known and not supported: their neutral values are accepted, every other value is a 400
that names the parameter. A value is neutral when the answer would be the same without it; null always is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hedgespec.errors import RequestError

_EITHER = (True, False)

_BOTH_ENDPOINTS: Mapping[str, tuple[Any, ...]] = {
    # OpenAI
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    # vLLM
    "allowed_token_ids": (),
    "bad_words": ([],),
    "cache_salt": (),
    "detokenize": (True,),
    "early_stopping": (False,),
    "guided_choice": (),
    "guided_grammar": (),
    "guided_json": (),
    "guided_regex": (),
    "include_stop_str_in_output": (False,),
    "kv_transfer_params": (),
    "length_penalty": (1, 1.0),
    "logits_processors": ([],),
    "min_p": (0, 0.0),
    "min_tokens": (0,),
    "priority": (0,),
    "prompt_logprobs": (),
    "request_id": (),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "stream_interval": (1,),
    "structured_outputs": (),
    "truncate_prompt_tokens": (),
    "use_beam_search": (False,),
    "vllm_xargs": ({},),
}

COMPLETIONS: Mapping[str, tuple[Any, ...]] = {
    **_BOTH_ENDPOINTS,
    "add_special_tokens": (True,),
    "logprobs": (False,),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
}

CHAT: Mapping[str, tuple[Any, ...]] = {
    **_BOTH_ENDPOINTS,
    "add_generation_prompt": (True,),
    "add_special_tokens": (False,),
    "audio": (),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "continue_final_message": (False,),
    "documents": ([],),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logprobs": (False,),
    "mm_processor_kwargs": ({},),
    "modalities": (["text"],),
    "moderation": (),
    "parallel_tool_calls": _EITHER,
    "prediction": (),
    "prompt_cache_key": (),
    "prompt_cache_options": ({},),
    "prompt_cache_retention": (),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
    "web_search_options": (),
}


def drop_neutral(body: Mapping[str, Any], known: Mapping[str, tuple[Any, ...]], prefix: str = "") -> dict[str, Any]:
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
