"""Validation makes a checked body of a JSON object; the first thing that is wrong becomes a RequestError.

Parameters that are known and not supported are accepted with a neutral value, with which the answer is the same as without
it (null always is one). Messages name the field and the limit, never the value: prompts and keys do not come back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hedgespec.api.errors import shown_name, wrong_value
from hedgespec.api.schemas import Strict
from hedgespec.errors import RequestError
from hedgespec.sampling.parameter import parameters

Body = TypeVar("Body", bound=Strict)


Neutral = Mapping[str, tuple[Any, ...]]
"""Name of a parameter -> its neutral values besides null."""


def _each(names: Sequence[str], *neutral: Any) -> Neutral:
    return dict.fromkeys(names, neutral)


_NEUTRAL_IN_BOTH: Neutral = {
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

NEUTRAL_IN_COMPLETIONS: Neutral = {**_NEUTRAL_IN_BOTH, "add_special_tokens": (True,), "suffix": ("",)}

NEUTRAL_IN_CHAT: Neutral = {
    **_NEUTRAL_IN_BOTH,
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


def parse_body(body: Mapping[str, Any], schema: type[Body], unsupported: Neutral) -> Body:
    """Return the body as its schema says. Raises RequestError.

    unsupported: known parameters with their neutral values; a field of the schema is supported all the same
    """
    # A null field is an absent one, as in OpenAI's API. An unknown field stays, null or not, to be refused.
    supported = drop_neutral(body, {k: v for k, v in unsupported.items() if k not in schema.model_fields})
    stated = {k: v for k, v in supported.items() if v is not None or k not in schema.model_fields}
    try:
        return schema.model_validate(stated)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        raise _first_problem(details) from None


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


def _first_problem(details: list[ErrorDetails]) -> RequestError:
    # An unknown field is the most telling mistake, often a misspelt one whose absence causes the others.
    detail = next((d for d in details if d["type"] == "extra_forbidden"), None)
    if detail is None:
        # Of the forms that a field may have, report the one that fits the longest.
        same_field = [d for d in details if d["loc"][:1] == details[0]["loc"][:1]]
        detail = max(same_field, key=lambda d: len(d["loc"]))
    param, kind = _param(detail["loc"]), detail["type"]
    if kind == "extra_forbidden":
        return RequestError(f"Unknown parameter: {param}.", code="unknown_parameter", param=param)
    if kind == "missing":
        return RequestError(f"Missing parameter: {param}.", code="missing_required_parameter", param=param)
    code = "invalid_type" if kind.endswith("_type") else "invalid_value"
    return wrong_value(param, detail["msg"], code)


def _param(location: tuple[int | str, ...]) -> str:
    """Return `stop[2]` or `stream_options.include_usage`, without the branch names that pydantic adds for unions."""
    # below these fields the keys are the client's own and are not repeated
    open_dictionaries = {"metadata", *(own.name for own in parameters() if get_origin(own.accepts) is dict)}
    name = ""
    for part in location[:1] if location[0] in open_dictionaries else location:
        if isinstance(part, int):
            name += f"[{part}]"
        elif "[" not in part and part != "str":
            name += f".{shown_name(part)}" if name else shown_name(part)
    return name
