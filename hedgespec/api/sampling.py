"""A checked body -> SamplingParams, with the bounds that depend on the model and the configuration."""

from __future__ import annotations

import re

from hedgespec.api.prompts import check_token_ids
from hedgespec.api.schemas import GenerationBody
from hedgespec.config import LimitsConfig
from hedgespec.errors import RequestError
from hedgespec.types import SamplingParams

MAX_STOP_CHARS = 64

_TOKEN_ID = re.compile(r"0|[1-9][0-9]{0,9}")


def sampling_params(
    body: GenerationBody, stated_max_tokens: int | None, vocab_size: int, limits: LimitsConfig
) -> SamplingParams:
    """stated_max_tokens: as the endpoint names it; without one the configured default. Raises RequestError."""
    check_token_ids("stop_token_ids", body.stop_token_ids, vocab_size, len(body.stop_token_ids))
    if body.stream_options is not None and not body.stream:
        raise _wrong("stream_options", "it needs stream: true")
    return SamplingParams(
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=min(max(body.top_k, 0), vocab_size),
        seed=body.seed,
        max_tokens=_max_tokens(stated_max_tokens, limits),
        stop=_stop(body.stop, limits.max_stop),
        stop_token_ids=tuple(body.stop_token_ids),
        ignore_eos=body.ignore_eos,
        logit_bias=_logit_bias(body.logit_bias, vocab_size, limits.max_logit_bias),
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        repetition_penalty=body.repetition_penalty,
    )


def _max_tokens(stated: int | None, limits: LimitsConfig) -> int:
    if stated is not None and stated > limits.max_tokens:
        raise _wrong("max_tokens", f"at most {limits.max_tokens}")
    return limits.default_max_tokens if stated is None else stated


def _stop(stop: str | list[str] | None, max_stop: int) -> tuple[str, ...]:
    strings = () if stop is None else (stop,) if isinstance(stop, str) else tuple(stop)
    if len(strings) > max_stop:
        raise _wrong("stop", f"at most {max_stop} strings")
    if any(not s for s in strings):
        raise _wrong("stop", "an empty string would stop everything")
    if any(len(s) > MAX_STOP_CHARS for s in strings):
        raise _wrong("stop", f"at most {MAX_STOP_CHARS} characters each")
    return tuple(dict.fromkeys(strings))


def _logit_bias(bias: dict[str, float], vocab_size: int, max_entries: int) -> tuple[tuple[int, float], ...]:
    if len(bias) > max_entries:
        raise _wrong("logit_bias", f"at most {max_entries} entries")
    if not all(_TOKEN_ID.fullmatch(key) and int(key) < vocab_size for key in bias):
        raise _wrong("logit_bias", f"keys must be token ids from 0 to {vocab_size - 1}")
    if not all(-100 <= value <= 100 for value in bias.values()):
        raise _wrong("logit_bias", "values must be from -100 to 100")
    return tuple((int(key), float(value)) for key, value in bias.items())


def _wrong(param: str, what: str) -> RequestError:
    return RequestError(f"Wrong value for {param}: {what}.", code="invalid_value", param=param)
