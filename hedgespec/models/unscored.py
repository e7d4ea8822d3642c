"""Verified tokens that a drafter was told about without being asked for scores: kept, so that later scores cover them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from hedgespec.models.session_text import new_part
from hedgespec.types import Observation, SparseRows

MAX_UNSCORED = 4096
"""Tokens per session; older ones are dropped, and their scores are never asked for again."""


class UnscoredTokens:
    def __init__(self) -> None:
        self._parts: deque[Observation] = deque()
        self._num_tokens = 0

    def add(self, new: Observation, score_from: int | None) -> Observation:
        """Keep the new part of an observation; when it wants scores, return what is to be scored and keep nothing.

        Returns the tokens from score_from on (`Observation.score_from`; later where they were dropped or have been
        scored), or just the new part when score_from is None or no scores are wanted.
        """
        self._parts.append(new)
        self._num_tokens += len(new.token_ids)
        while self._num_tokens > MAX_UNSCORED and len(self._parts) > 1:
            self._num_tokens -= len(self._parts.popleft().token_ids)
        if not new.wants_scores:
            return new
        span = joined(list(self._parts)) if score_from is not None else new
        self._parts.clear()
        self._num_tokens = 0
        end = span.start + len(span.token_ids)
        first = span.start if score_from is None else max(span.start, min(score_from, new.start))
        return new_part(span, end - first)


def joined(parts: Sequence[Observation]) -> Observation:
    """Consecutive observations as one; target_top only if all of them have it."""
    if len(parts) == 1:
        return parts[0]
    tops = [_cut(part.target_top, len(part.token_ids)) for part in parts if part.target_top is not None]
    return Observation(
        start=parts[0].start,
        token_ids=np.concatenate([part.token_ids for part in parts]),
        target_probs=np.concatenate([part.target_probs for part in parts]),
        target_top=_stacked(tops) if len(tops) == len(parts) else None,
        wants_scores=True,
    )


def first_part(observation: Observation, num_tokens: int) -> Observation:
    """The first num_tokens of an observation, with their probabilities."""
    top = observation.target_top
    return Observation(
        start=observation.start,
        token_ids=observation.token_ids[:num_tokens],
        target_probs=observation.target_probs[:num_tokens],
        target_top=None if top is None else _cut(top, num_tokens),
        wants_scores=observation.wants_scores,
    )


def _cut(rows: SparseRows, num_rows: int) -> SparseRows:
    end = int(rows.offsets[num_rows])
    return SparseRows(rows.offsets[: num_rows + 1], rows.ids[:end], rows.probs[:end])


def _stacked(blocks: Sequence[SparseRows]) -> SparseRows:
    lengths = np.concatenate([np.diff(block.offsets) for block in blocks])
    return SparseRows(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        np.concatenate([block.ids for block in blocks]),
        np.concatenate([block.probs for block in blocks]),
    )
