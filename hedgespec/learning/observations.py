"""Observations are joined and cut here, so that one message to a drafter covers the rounds since the last one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hedgespec.types import Observation, SparseRows


def joined(parts: Sequence[Observation]) -> Observation:
    """Join consecutive observations into one; it has target_top only if all of them have it."""
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


def new_part(observation: Observation, num_new: int) -> Observation:
    """The last num_new tokens of an observation, with their probabilities."""
    num_known = len(observation.token_ids) - num_new
    if num_known == 0:
        return observation
    top = observation.target_top
    return Observation(
        start=observation.start + num_known,
        token_ids=observation.token_ids[num_known:],
        target_probs=observation.target_probs[num_known:],
        target_top=None if top is None else _rows_from(top, num_known),
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


def _rows_from(rows: SparseRows, first: int) -> SparseRows:
    start = int(rows.offsets[first])
    return SparseRows(rows.offsets[first:] - rows.offsets[first], rows.ids[start:], rows.probs[start:])
