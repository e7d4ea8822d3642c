"""A sampling parameter is one class that says what a client may send and how that changes the next token's distribution.

The functions below it find the registered parameters and the values that a request gives to them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property, lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, get_args

from pydantic import ConfigDict, TypeAdapter

from hedgespec.catalogue import SAMPLING_PARAMETERS
from hedgespec.config import LimitsConfig
from hedgespec.errors import ConfigError, RequestError
from hedgespec.types import SamplingParams

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

Stage = Literal["logits", "scaled", "probs"]


@dataclass(frozen=True, slots=True)
class RowCounts:
    """The counts of every row of logits, on the logits' device.

    ids:         [num_ids] of the tokens that occur in any row
    is_present:  [rows, num_ids] bool: in the prompt, the answer or the row's draft ancestors
    num_emitted: [rows, num_ids] of the logits' type: how often in the answer or the ancestors
    """

    ids: Tensor
    is_present: Tensor
    num_emitted: Tensor


class SamplingParameter(ABC, Generic[T]):
    """A subclass in its own file and a line in `catalogue.SAMPLING_PARAMETERS` are all that a parameter needs: request
    bodies, the wire, the target and every drafter follow. The file must not import torch at its top, since the router
    process reads it too.

    name:    the client's field; also its attribute of `SamplingParams`, if it has one
    accepts: pydantic type of the client's value, with the bounds that hold for every model
    neutral: the default, with which the parameter does nothing
    stage:   what `apply` changes; the stages come in this order, and within one the order is the catalogue's
             logits: [rows, vocab], column = token id; also at temperature 0, where the largest logit is emitted
             scaled: logits minus the row's largest one, which is 0; `temperature` divides them first
             probs:  probabilities; a row is normalised again after every parameter
             The columns of the last two may be any part of the vocabulary, in any order
    reads_counts: whether `apply` needs to know which tokens the prompt and the answer hold (stage `logits` only)
    """

    name: ClassVar[str]
    accepts: ClassVar[Any]
    neutral: ClassVar[Any]
    stage: ClassVar[Stage]
    reads_counts: ClassVar[bool] = False

    def read(self, stated: Any, vocab_size: int, limits: LimitsConfig) -> T:
        """Turn the client's value, already of the type `accepts`, into a hashable one within the model's bounds.

        Raises RequestError.
        """
        value: T = stated
        return value

    def as_stated(self, value: T) -> Any:
        """Return the value as a client would send it, in JSON's types: the inverse of `read`."""
        return value

    @abstractmethod
    def apply(self, rows: Tensor, value: T, counts: RowCounts | None) -> Tensor:
        """Return the changed rows; `rows` may be changed in place. Never called with the neutral value.

        counts: of the same rows; None unless `reads_counts`
        """

    def checked(self, stated: Any) -> Any:
        """Return `stated` if it is of the type `accepts`. Raises pydantic's ValidationError."""
        return self._adapter.validate_python(stated)

    def wrong(self, rule: str) -> RequestError:
        """The error for a value that breaks a rule; the value itself is never repeated."""
        return RequestError(f"Wrong value for {self.name}: {rule}.", code="invalid_value", param=self.name)

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        config = ConfigDict(strict=True, allow_inf_nan=False, hide_input_in_errors=True)
        return TypeAdapter(self.accepts, config=config)


Active = tuple[SamplingParameter[Any], Any]
"""A parameter and its value, which is not the neutral one."""

_ATTRIBUTES = frozenset(field.name for field in fields(SamplingParams))


@cache
def parameters() -> tuple[SamplingParameter[Any], ...]:
    """Every registered parameter, in the order in which those of one stage are applied.

    Raises ConfigError for one of an installed package that cannot be loaded, or whose name or stage is wrong.
    """
    try:
        found = tuple(SAMPLING_PARAMETERS.load(name)() for name in SAMPLING_PARAMETERS.names())
    except TypeError as error:
        raise ConfigError(f"A sampling parameter of an installed package is not complete: {error}.") from error
    for registered, own in zip(SAMPLING_PARAMETERS.names(), found, strict=True):
        if own.name != registered or own.stage not in get_args(Stage):
            raise ConfigError(
                f"The sampling parameter {registered!r} calls itself {own.name!r}, of stage {own.stage!r}: both names must "
                f"be the same, and the stage one of {get_args(Stage)}."
            )
    return found


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
