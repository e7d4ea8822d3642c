"""The drafter's side of a round: a truncated distribution, and the token proposed from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hedgespec.speculative.noise import Purpose, gumbel_argmax, uniform
from hedgespec.types import MAX_SPARSE_IDS, SPARSE_MASS, Method, SparseRows

if TYPE_CHECKING:  # methods of tensors are enough here, and drafters without a model need no torch
    from torch import Tensor


def truncate(probs: Tensor) -> SparseRows:
    """Keep, per row, the smallest set of ids with at least SPARSE_MASS of the mass, at most MAX_SPARSE_IDS of them.

    probs: [rows, vocab], processed, so that temperature 0 keeps one id. Rows are renormalised; entries come by falling
    probability. The drafter samples from exactly this distribution: what travels is exact.
    """
    num_rows, vocab = probs.shape
    if num_rows == 0:
        return SparseRows(np.zeros(1, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))
    top = probs.topk(min(MAX_SPARSE_IDS, vocab), dim=-1)
    values, ids = top.values.double().cpu().numpy(), top.indices.int().cpu().numpy()
    enough = SPARSE_MASS * probs.sum(dim=-1, keepdim=True).double().cpu().numpy()
    mass = np.cumsum(values, axis=-1)
    kept = (mass - values < enough) & (values > 0)
    kept[:, 0] = True
    lengths = kept.sum(axis=-1)
    values /= np.take_along_axis(mass, lengths[:, None] - 1, axis=-1)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return SparseRows(offsets, ids[kept], values[kept].astype(np.float32))


def propose(
    ids: NDArray[np.int32],
    probs: NDArray[np.float32],
    method: Method,
    noise_seed: int,
    output_index: int,
    round_index: int,
) -> int:
    """The draft token of one row of `truncate`: a function of its arguments alone.

    ids, probs: [num_ids]. greedy: the most probable id, the lowest on ties. rejection: a sample, fresh in every round.
    coupled: the sample that the target's own noise picks from the drafter's distribution.
    """
    if method == "greedy":
        return int(ids[probs == probs.max()].min())
    if method == "coupled":
        return gumbel_argmax(ids, probs, noise_seed, output_index)
    cumulative = np.cumsum(probs, dtype=np.float64)
    point = uniform(noise_seed, output_index, Purpose.DRAFT, round_index=round_index) * cumulative[-1]
    chosen = int(np.searchsorted(cumulative, point, side="right"))
    return int(ids[min(chosen, int(np.flatnonzero(probs)[-1]))])


def concatenate(rows: Sequence[SparseRows]) -> SparseRows:
    """All rows of several blocks, in order: the steps of a draft put together."""
    lengths = np.concatenate([np.zeros(1, np.int32), *(np.diff(block.offsets) for block in rows)])
    return SparseRows(
        np.cumsum(lengths).astype(np.int32),
        np.concatenate([np.zeros(0, np.int32), *(block.ids for block in rows)]),
        np.concatenate([np.zeros(0, np.float32), *(block.probs for block in rows)]),
    )
