"""The ids of one session: the prompt, then verified tokens in order. NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hedgespec.errors import InvalidObservation, RequestError
from hedgespec.types import Observation, SessionSpec


class SessionText:
    """The growing ids of a session. vocab_size: ids must be below it; None accepts every non-negative id."""

    def __init__(self, spec: SessionSpec, vocab_size: int | None = None) -> None:
        if len(spec.prompt_ids) == 0:
            raise RequestError("The prompt is empty; send at least one token.", param="prompt")
        self.spec = spec
        self.num_prompt = len(spec.prompt_ids)
        self._vocab_size = vocab_size
        self._length = spec.num_tokens
        self._ids = np.concatenate([spec.prompt_ids, spec.emitted_ids]).astype(np.int32)
        self._check(self._ids, "prompt")

    def __len__(self) -> int:
        return self._length

    @property
    def ids(self) -> NDArray[np.int32]:
        """Return all ids, [num_tokens]: a view that is valid until the next `append`."""
        return self._ids[: self._length]

    @property
    def num_emitted(self) -> int:
        return self._length - self.num_prompt

    def observe(self, observation: Observation) -> NDArray[np.int32]:
        """Append what is new in an observation and return it; tokens that were observed before are compared.

        Raises InvalidObservation for a gap, for tokens that differ from before, and for ids outside the vocabulary.
        """
        tokens = np.asarray(observation.token_ids, np.int32)
        num_seen = self.num_emitted - observation.start
        if observation.start < 0 or num_seen < 0:
            raise InvalidObservation(
                f"Tokens from output index {observation.start} on, but {self.num_emitted} were observed; resend the gap."
            )
        seen = self.ids[self.num_prompt + observation.start :][: len(tokens)]
        if not np.array_equal(seen, tokens[: len(seen)]):
            raise InvalidObservation(f"Output index {observation.start} was observed before, with other tokens.")
        new = tokens[num_seen:]
        self._check(new, "observation")
        self.append(new)
        return new

    def append(self, token_ids: NDArray[np.int32]) -> None:
        end = self._length + len(token_ids)
        if end > len(self._ids):
            larger = np.empty(max(end, 2 * len(self._ids)), np.int32)
            larger[: self._length] = self.ids
            self._ids = larger
        self._ids[self._length : end] = token_ids
        self._length = end

    def _check(self, ids: NDArray[np.int32], where: str) -> None:
        limit = self._vocab_size
        if len(ids) and (ids.min() < 0 or (limit is not None and ids.max() >= limit)):
            message = f"Token ids of the {where} must lie in [0, {limit}), got {int(ids.min())}..{int(ids.max())}."
            raise InvalidObservation(message) if where == "observation" else RequestError(message, param="prompt")
