"""What a request may hold; bounds that depend on configuration or model are checked in `sampling` and `prompts`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hedgespec.config import Identifier

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

ShortText = Annotated[str, Field(max_length=128)]
Penalty = Annotated[float, Field(ge=-2, le=2)]


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
    """Common to both endpoints. user, safety_identifier and metadata are accepted and not used."""

    model: str = Field(max_length=256)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=-1)
    seed: int | None = Field(None, ge=INT64_MIN, le=INT64_MAX)
    stop: str | list[str] | None = None
    stop_token_ids: list[int] = Field(default_factory=list, max_length=64)
    ignore_eos: bool = False
    logit_bias: dict[str, float] = Field(default_factory=dict)
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    repetition_penalty: float = Field(1.0, gt=0, le=2)
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


class TokenizeBody(Strict):
    """prompt or messages."""

    model: str | None = Field(None, max_length=256)
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = Field(None, min_length=1)
    add_special_tokens: bool = True


class DetokenizeBody(Strict):
    model: str | None = Field(None, max_length=256)
    tokens: list[int]
