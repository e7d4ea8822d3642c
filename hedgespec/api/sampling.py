"""A checked body -> SamplingParams, within the bounds that depend on the model and the configuration."""

from __future__ import annotations

from hedgespec.api.errors import wrong_value
from hedgespec.api.prompts import check_token_ids
from hedgespec.api.schemas import GenerationBody
from hedgespec.config import LimitsConfig
from hedgespec.sampling.parameter import parameters, with_values
from hedgespec.types import SamplingParams

MAX_STOP_CHARS = 64


def sampling_params(
    body: GenerationBody, stated_max_tokens: int | None, vocab_size: int, limits: LimitsConfig
) -> SamplingParams:
    """Read everything that shapes the distribution or ends the answer.

    stated_max_tokens: as the endpoint names it; without one the configured default. Raises RequestError.
    """
    check_token_ids("stop_token_ids", body.stop_token_ids, vocab_size, len(body.stop_token_ids))
    if body.stream_options is not None and not body.stream:
        raise wrong_value("stream_options", "it needs stream: true")
    params = SamplingParams(
        seed=body.seed,
        max_tokens=_max_tokens(stated_max_tokens, limits),
        stop=_stop(body.stop, limits.max_stop),
        stop_token_ids=tuple(body.stop_token_ids),
        ignore_eos=body.ignore_eos,
    )
    stated = [own for own in parameters() if own.name in body.model_fields_set]
    return with_values(params, {own.name: own.read(getattr(body, own.name), vocab_size, limits) for own in stated})


def _max_tokens(stated: int | None, limits: LimitsConfig) -> int:
    if stated is not None and stated > limits.max_tokens:
        raise wrong_value("max_tokens", f"at most {limits.max_tokens}")
    return limits.default_max_tokens if stated is None else stated


def _stop(stop: str | list[str] | None, max_stop: int) -> tuple[str, ...]:
    strings = () if stop is None else (stop,) if isinstance(stop, str) else tuple(stop)
    if len(strings) > max_stop:
        raise wrong_value("stop", f"at most {max_stop} strings")
    if any(not s for s in strings):
        raise wrong_value("stop", "an empty string would stop everything")
    if any(len(s) > MAX_STOP_CHARS for s in strings):
        raise wrong_value("stop", f"at most {MAX_STOP_CHARS} characters each")
    return tuple(dict.fromkeys(strings))
