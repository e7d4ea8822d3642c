"""The values that a request gives to the registered sampling parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from typing import Any

from hedgespec.catalogue import SAMPLING_PARAMETERS
from hedgespec.sampling.parameter import SamplingParameter
from hedgespec.types import SamplingParams

Active = tuple[SamplingParameter[Any], Any]
"""A parameter and its value, which is not the neutral one."""

_ATTRIBUTES = frozenset(field.name for field in fields(SamplingParams))


@cache
def parameters() -> tuple[SamplingParameter[Any], ...]:
    """Every registered parameter, in the order in which those of one stage are applied."""
    return tuple(SAMPLING_PARAMETERS.load(name)() for name in SAMPLING_PARAMETERS.names())


def value_of(params: SamplingParams, parameter: SamplingParameter[Any]) -> Any:
    """Return the request's value of a parameter, neutral if it has none."""
    if parameter.name in _ATTRIBUTES:
        return getattr(params, parameter.name)
    return dict(params.others).get(parameter.name, parameter.neutral)


def with_values(params: SamplingParams, values: Mapping[str, Any]) -> SamplingParams:
    """Return params with these values, by parameter name: in its attributes, and in `others` what has none."""
    own = {name: value for name, value in values.items() if name in _ATTRIBUTES}
    others = tuple((name, value) for name, value in values.items() if name not in _ATTRIBUTES)
    return replace(params, **own, others=others)


def active(params: SamplingParams) -> tuple[Active, ...]:
    """The parameters that change something, in order, with their values."""
    found = ((parameter, value_of(params, parameter)) for parameter in parameters())
    return tuple((parameter, value) for parameter, value in found if value != parameter.neutral)


def filters(params: SamplingParams) -> tuple[Active, ...]:
    """The active parameters behind the stage `logits`. Rows with equal filters can be processed together."""
    return tuple(own for own in active(params) if own[0].stage != "logits")


def reads_counts(params: SamplingParams) -> bool:
    """Whether the distribution depends on which tokens the prompt and the answer hold."""
    return any(parameter.reads_counts for parameter, _ in active(params))


def reads_ids(params: SamplingParams, *, has_counts: bool) -> bool:
    """Whether logits must stand in columns of token ids. has_counts: else what reads counts is left out."""
    return any(own.stage == "logits" and (has_counts or not own.reads_counts) for own, _ in active(params))
