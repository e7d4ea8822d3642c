"""A drafter scores verified tokens: how would its own proposals have fared (design 5)? NumPy only.

The scores read the drafter's truncated distributions (`truncate`) on the verified trajectory, one row per verified token.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hedgespec.speculative.proposal import propose
from hedgespec.types import SparseRows

Rows = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Values = NDArray[np.float32]

DraftProbs = Callable[[Rows, NDArray[np.int32]], Floats]
"""(row, id of every entry) -> the drafter's truncated probabilities, all [num_entries]."""


def rejection_acceptance(
    draft_probs: DraftProbs, token_ids: NDArray[np.int32], target_probs: NDArray[np.float32]
) -> Values:
    """Return min(1, q(x) / p(x)): how likely the drafter proposes a token that is accepted, given that x was emitted.

    All [num_rows].
    """
    own = draft_probs(np.arange(len(token_ids)), token_ids)
    acceptance: Values = _ratio(own, target_probs).astype(np.float32)
    return acceptance


def rejection_scores(
    draft_probs: DraftProbs, token_ids: NDArray[np.int32], target_probs: NDArray[np.float32], target_top: SparseRows
) -> tuple[Values, Values]:
    """Return `rejection_acceptance` and an estimate of the acceptance probability sum_x min(p(x), q(x)); both [num_rows].

    target_top: the target's largest probabilities S. The estimate is
    sum_{x in S} min(p, q) + 1{x_t not in S} min(1, q/p)(x_t), whose second term stands for the mass outside S, so that it
    is unbiased over the realised token x_t. At temperature 0 both distributions are one-hot and it is the 0/1 hit.
    """
    num_rows = len(token_ids)
    row_of_entry = np.repeat(np.arange(num_rows), np.diff(target_top.offsets))
    asked_rows, asked_ids = np.append(np.arange(num_rows), row_of_entry), np.append(token_ids, target_top.ids)
    own = draft_probs(asked_rows, asked_ids)
    acceptance = _ratio(own[:num_rows], target_probs)
    inside = np.bincount(row_of_entry, np.minimum(target_top.probs, own[num_rows:]), num_rows)
    is_sent = np.bincount(row_of_entry, target_top.ids == token_ids[row_of_entry], num_rows) > 0
    acceptance_prob = inside + np.where(is_sent, 0.0, acceptance)
    return acceptance.astype(np.float32), acceptance_prob.astype(np.float32)


def coupled_acceptance(
    rows: SparseRows, token_ids: NDArray[np.int32], noise_seed: int, output_indices: NDArray[np.int64]
) -> Values:
    """Return 1 where the drafter's proposal is the emitted token at that output index, else 0: [num_rows].

    rows: the drafter's distributions on the verified trajectory, from `truncate`
    """
    indices = output_indices.tolist()
    proposed = [propose(*rows.row(row), "coupled", noise_seed, index, 0) for row, index in enumerate(indices)]
    hits: Values = (np.array(proposed, np.int32) == token_ids).astype(np.float32)
    return hits


def prompt_acceptance_probs(draft_probs: DraftProbs, prompt_top: SparseRows, has_draft: Bools) -> Values:
    """Return sum_x min(p(x), q(x)) over the ids of each prompt token's distribution that were sent: [num_rows].

    has_draft:   [num_rows], whether the drafter has a distribution there; the sum is 0 where it has none
    draft_probs: its rows are those that the drafter has, counted from 0
    """
    row_of_entry = np.repeat(np.arange(prompt_top.num_rows), np.diff(prompt_top.offsets))
    entries = has_draft[row_of_entry]
    own_row = np.cumsum(has_draft) - 1
    common = np.zeros(len(row_of_entry))
    values = draft_probs(own_row[row_of_entry[entries]], prompt_top.ids[entries])
    common[entries] = np.minimum(prompt_top.probs[entries], values)
    return np.bincount(row_of_entry, weights=common, minlength=prompt_top.num_rows).astype(np.float32)


def probs_of(rows: SparseRows) -> DraftProbs:
    """Look probabilities up in truncated rows; 0 where an id is absent."""
    return partial(_lookup, rows)


def _lookup(rows: SparseRows, row_indices: NDArray[np.int64], ids: NDArray[np.int32]) -> NDArray[np.float64]:
    stride = 1 + max(int(rows.ids.max(initial=0)), int(ids.max(initial=0)))
    keys = np.repeat(np.arange(rows.num_rows), np.diff(rows.offsets)) * stride + rows.ids
    order = np.argsort(keys)
    queries = row_indices * stride + ids
    if not len(keys):
        return np.zeros(len(queries))
    entries = order[np.minimum(np.searchsorted(keys, queries, sorter=order), len(keys) - 1)]
    return np.where(keys[entries] == queries, rows.probs[entries].astype(np.float64), 0.0)


def _ratio(draft_probs: NDArray[np.float64], target_probs: NDArray[np.float32]) -> NDArray[np.float64]:
    """min(1, q / p); a p that was rounded to 0 counts as tiny."""
    target = np.maximum(target_probs.astype(np.float64), np.finfo(np.float32).tiny)
    return np.minimum(draft_probs / target, 1.0)
