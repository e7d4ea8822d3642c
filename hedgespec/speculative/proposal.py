"""The drafter's side of a round: its distributions are truncated, and tokens are proposed from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hedgespec.speculative.noise import Purpose, gumbel_argmax, gumbels, uniform, uniforms
from hedgespec.speculative.sparse_rows import TokenDistribution, selected_rows
from hedgespec.types import MAX_SPARSE_IDS, SPARSE_MASS, Method, SparseRows

if TYPE_CHECKING:  # methods of tensors are enough here, and drafters without a model need no torch
    from torch import Tensor

SHORT_ROW = 8192
"""Rows of so many probabilities are sorted by NumPy, in a fifth of the time that torch's `topk` takes."""

Children = tuple[NDArray[np.int32], NDArray[np.float64]]
"""ids in falling order of preference, and the logarithms of their weights, each at most 0."""


def truncate(probs: Tensor) -> SparseRows:
    """Keep, per row, the smallest set of ids with at least SPARSE_MASS of the mass, at most MAX_SPARSE_IDS of them.

    probs: [rows, vocab], processed, so that temperature 0 keeps one id. Rows are renormalised; entries come by falling
    probability. The drafter samples from exactly this distribution: what travels is exact.
    """
    top = probs.topk(min(MAX_SPARSE_IDS, probs.shape[-1]), dim=-1)
    values, ids = top.values.double().cpu().numpy(), top.indices.int().cpu().numpy()
    kept = _kept(values, probs)
    return selected_rows(ids, values / kept.mass[:, None], np.arange(values.shape[-1]) < kept.num_ids[:, None])


@dataclass(frozen=True, slots=True)
class KeptParts:
    """The part of every row that `truncate` keeps, [rows] each.

    num_ids: how many ids; floor: the smallest of their probabilities; mass: their sum
    """

    num_ids: NDArray[np.int64]
    floor: NDArray[np.float64]
    mass: NDArray[np.float64]


def kept_parts(probs: Tensor) -> KeptParts:
    """Find what `truncate` would keep of probs [rows, vocab], without the ids: finding them takes longer than sorting short
    rows."""
    if not (probs.is_cpu and probs.shape[-1] <= SHORT_ROW):
        top = probs.topk(min(MAX_SPARSE_IDS, probs.shape[-1]), dim=-1)
        return _kept(top.values.double().cpu().numpy(), probs)
    falling = np.sort(probs.numpy(), axis=-1)[:, ::-1]
    return _kept(falling[:, :MAX_SPARSE_IDS].astype(np.float64), probs)


def propose(
    ids: NDArray[np.int32],
    probs: NDArray[np.float32],
    method: Method,
    noise_seed: int,
    output_index: int,
    round_index: int,
    chain: int = 0,
) -> int:
    """Choose the draft token of one row of `truncate`: a function of its arguments alone.

    ids, probs: [num_ids]. greedy: the most probable id, the lowest on ties. rejection: a sample, fresh in every round
    and every chain of a multi-draft. coupled: the sample that the target's own noise picks from the drafter's
    distribution, the same in every chain.
    """
    if method == "greedy":
        return int(ids[probs == probs.max()].min())
    if method == "coupled":
        return gumbel_argmax(ids, probs, noise_seed, output_index)
    cumulative = np.cumsum(probs, dtype=np.float64)
    point = _draft_point(noise_seed, output_index, round_index, chain) * cumulative[-1]
    chosen = int(np.searchsorted(cumulative, point, side="right"))
    return int(ids[min(chosen, int(np.flatnonzero(probs)[-1]))])


def without(distribution: TokenDistribution, tokens: Sequence[int]) -> TokenDistribution:
    """Condition on none of `tokens` being drawn; both arrays are empty when nothing else has mass."""
    ids, probs = distribution
    kept = ~np.isin(ids, np.asarray(tokens, np.int32)) & (probs > 0)
    values = probs[kept].astype(np.float64)
    return ids[kept], (values / max(values.sum(), np.finfo(np.float64).tiny)).astype(np.float32)


def ranked_children(
    probs: Tensor, method: Method, noise_seed: int, output_index: int, branching: int
) -> list[Children]:
    """Choose, per row, the tokens that a deterministic tree tries next: at most `branching`, fewer where less has mass.

    probs: [rows, vocab] for the token at output_index: processed, or at temperature 0 the softmax that the chosen token
        is the maximum of. `coupled`: ids are ranked and weighted by the softmax of log q + G with the target's own noise
        G, so that the first one is the token that `propose` would choose and hits are likelier.
    """
    top = probs.topk(min(branching, probs.shape[1]), dim=-1)
    values, ids = top.values.double().cpu().numpy(), top.indices.int().cpu().numpy()
    if method != "coupled":
        return [_ranked(*pair) for pair in zip(ids, _logs(values), strict=True)]
    kept = truncate(probs)
    return [_perturbed(kept.row(row), (ids[row], values[row]), noise_seed, output_index) for row in range(len(ids))]


def _kept(values: NDArray[np.float64], probs: Tensor) -> KeptParts:
    """values: the MAX_SPARSE_IDS largest of every row of probs, falling."""
    mass = values.cumsum(axis=-1)
    enough = SPARSE_MASS * probs.sum(dim=-1, keepdim=True).double().cpu().numpy()
    num_ids = np.maximum(((mass - values < enough) & (values > 0)).sum(axis=-1), 1)
    last = np.arange(len(values)), num_ids - 1
    return KeptParts(num_ids, values[last], mass[last])


def _draft_point(noise_seed: int, output_index: int, round_index: int, chain: int) -> float:
    if chain == 0:  # the same number as counter 0 below, for less
        return uniform(noise_seed, output_index, Purpose.DRAFT, round_index=round_index)
    return float(uniforms(noise_seed, output_index, Purpose.DRAFT, chain, round_index=round_index))


def _perturbed(
    kept: TokenDistribution, top: tuple[NDArray[np.int32], NDArray[np.float64]], seed: int, output_index: int
) -> Children:
    """Rank by log q + G what is kept of q; all of the top where that is more."""
    num_children = len(top[0])
    ids, probs = kept if len(kept[0]) >= num_children else top
    scores = _logs(probs.astype(np.float64)) + gumbels(seed, output_index, ids)
    largest = scores.max()
    ranked, values = _ranked(ids, scores - (largest + np.log(np.exp(scores - largest).sum())))
    return ranked[:num_children], values[:num_children]


def _ranked(ids: NDArray[np.int32], logs: NDArray[np.float64]) -> Children:
    """By falling weight, the lowest id on ties; ids without mass are left out."""
    order = np.lexsort((ids, -logs))
    order = order[np.isfinite(logs[order])]
    return ids[order], np.minimum(logs[order], 0.0)


def _logs(probs: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        logs: NDArray[np.float64] = np.log(probs)
    return logs
