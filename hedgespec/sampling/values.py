"""The values that a request gives to the registered sampling parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache, lru_cache
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


@dataclass(frozen=True, slots=True)
class Plan:
    """The parameters of a request that change something, with their values, in the order in which they are applied.

    shaping: those of the stage `logits`; filters: those behind it. Rows with equal filters can be processed together
    reads_counts: whether any of them needs to know which tokens the prompt and the answer hold
    """

    shaping: tuple[Active, ...]
    filters: tuple[Active, ...]
    reads_counts: bool

    @property
    def active(self) -> tuple[Active, ...]:
        return self.shaping + self.filters


@lru_cache(maxsize=1024)  # it is asked for in every pass
def plan(params: SamplingParams) -> Plan:
    """Find what the request's parameters do."""
    stated = [(parameter, value_of(params, parameter)) for parameter in parameters()]
    active = [(parameter, value) for parameter, value in stated if value != parameter.neutral]
    shaping = tuple(own for own in active if own[0].stage == "logits")
    filters = tuple(own for own in active if own[0].stage != "logits")
    return Plan(shaping, filters, any(parameter.reads_counts for parameter, _ in shaping))
