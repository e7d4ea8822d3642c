"""The fields of requests. Bounds that depend on configuration or model are checked in `sampling` and `prompts`."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, create_model

from hedgespec.config import Identifier
from hedgespec.errors import ConfigError
from hedgespec.sampling.parameter import SamplingParameter, parameters

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

ShortText = Annotated[str, Field(max_length=128)]


class Strict(BaseModel):
    """Unknown fields, numbers as strings, booleans as numbers and non-finite numbers are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True, hide_input_in_errors=True)


class StreamOptions(Strict):
    include_usage: bool = False
    continuous_usage_stats: bool = False
    include_obfuscation: Literal[False] = False


class HedgeSpecOptions(Strict):
    """Our own request object (`extra_body={"hedgespec": {...}}` in the openai client).

    report: send the speculation report back. drafter: pin one by id, `none` for no speculation, `random` for a uniform
    choice per round; without it the learner chooses. scope: a sub-key of the tenant's preferences.
    """

    report: bool = False
    drafter: str | None = Field(default=None, max_length=64)
    max_draft_tokens: int | None = Field(default=None, ge=0, le=16)
    scope: Identifier | None = None


class GenerationBody(Strict):
    """Common to both endpoints; `with_sampling_parameters` adds the rest. user, safety_identifier and metadata are accepted
    and not used."""

    model: str = Field(max_length=256)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    seed: int | None = Field(None, ge=INT64_MIN, le=INT64_MAX)
    stop: str | list[str] | None = None
    stop_token_ids: list[int] = Field(default_factory=list, max_length=64)
    ignore_eos: bool = False
    user: ShortText | None = None
    safety_identifier: ShortText | None = None
    metadata: dict[ShortText, Annotated[str, Field(max_length=512)]] | None = Field(None, max_length=16)
    hedgespec: HedgeSpecOptions = HedgeSpecOptions()


class CompletionBody(GenerationBody):
    """prompt: text, token ids, or a list of either."""

    prompt: str | list[Any]


class ChatBody(GenerationBody):
    messages: list[dict[str, Any]] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)


Generation = TypeVar("Generation", bound=GenerationBody)


def with_sampling_parameters(schema: type[Generation]) -> type[Generation]:
    """Return the schema with one more field per registered sampling parameter. Raises ConfigError for a taken name."""
    return cast("type[Generation]", _extended(schema, parameters()))


@cache
def _extended(schema: type[GenerationBody], added: tuple[SamplingParameter[Any], ...]) -> type[GenerationBody]:
    if taken := sorted({own.name for own in added} & schema.model_fields.keys()):
        raise ConfigError(f"Sampling parameters {taken} of an installed package are fields of a request already.")
    fields: dict[str, Any] = {own.name: (own.accepts, own.neutral) for own in added}
    return create_model(schema.__name__, __base__=schema, **fields)


class TokenizeBody(Strict):
    """prompt or messages."""

    model: str | None = Field(None, max_length=256)
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = Field(None, min_length=1)
    add_special_tokens: bool = True


class DetokenizeBody(Strict):
    model: str | None = Field(None, max_length=256)
    tokens: list[int]
