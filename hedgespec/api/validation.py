"""Validation makes a checked body of a JSON object; the first thing that is wrong becomes a RequestError.

Messages name the field and the limit, never the value: prompts and keys do not come back in errors or logs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hedgespec.api.errors import shown_name, wrong_value
from hedgespec.api.neutral import Neutral, drop_neutral
from hedgespec.api.schemas import Strict
from hedgespec.errors import RequestError
from hedgespec.sampling.parameter import parameters

Body = TypeVar("Body", bound=Strict)


def parse_body(body: Mapping[str, Any], schema: type[Body], unsupported: Neutral) -> Body:
    """Return the body as its schema says. unsupported: see `neutral`; a field of the schema is supported whatever it says.

    Raises RequestError.
    """
    # A null field is an absent one, as in OpenAI's API. An unknown field stays, null or not, to be refused.
    supported = drop_neutral(body, {k: v for k, v in unsupported.items() if k not in schema.model_fields})
    stated = {k: v for k, v in supported.items() if v is not None or k not in schema.model_fields}
    try:
        return schema.model_validate(stated)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        raise _first_problem(details) from None


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
