"""A sampling parameter is one class that says what a client may send and how that changes the next token's distribution."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter

from hedgespec.config import LimitsConfig
from hedgespec.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor

    from hedgespec.sampling.token_counts import RowCounts

T = TypeVar("T")

Stage = Literal["logits", "scaled", "probs"]


class SamplingParameter(Generic[T]):
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

    def apply(self, rows: Tensor, value: T, counts: RowCounts | None) -> Tensor:
        """Return the changed rows; `rows` may be changed in place. Never called with the neutral value.

        counts: of the same rows; None unless `reads_counts`
        """
        raise NotImplementedError

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
