"""Sparse rows are put together from dense blocks, from single distributions, or from other sparse rows. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hedgespec.types import SparseRows

TokenDistribution = tuple[NDArray[np.int32], NDArray[np.float32]]
"""ids and their probabilities, which sum to 1."""


def selected_rows(ids: NDArray[np.int32], probs: NDArray[np.floating], is_kept: NDArray[np.bool_]) -> SparseRows:
    """The kept entries of a dense block; all [num_rows, num_ids]."""
    offsets = np.concatenate(([0], np.cumsum(is_kept.sum(axis=1)))).astype(np.int32)
    return SparseRows(offsets, ids[is_kept], probs[is_kept].astype(np.float32))


def rows_of(distributions: Sequence[TokenDistribution]) -> SparseRows:
    """One row per distribution."""
    lengths = [len(ids) for ids, _ in distributions]
    return _joined(lengths, [ids for ids, _ in distributions], [probs for _, probs in distributions])


def concatenate(blocks: Sequence[SparseRows]) -> SparseRows:
    """All rows of several blocks, in order: the steps of a draft put together."""
    lengths = [length for block in blocks for length in np.diff(block.offsets).tolist()]
    return _joined(lengths, [block.ids for block in blocks], [block.probs for block in blocks])


def _joined(
    lengths: Sequence[int], ids: Sequence[NDArray[np.int32]], probs: Sequence[NDArray[np.float32]]
) -> SparseRows:
    return SparseRows(
        np.cumsum([0, *lengths]).astype(np.int32),
        np.concatenate([np.zeros(0, np.int32), *ids]),
        np.concatenate([np.zeros(0, np.float32), *probs]),
    )
