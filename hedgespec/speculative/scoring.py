"""The drafter's score of verified tokens: how its own proposals would have fared (DESIGN 5). NumPy only.

Rows are the drafter's truncated distributions on the verified trajectory, made by `truncate` from its processed
probabilities; the realised token of row r stands at output index first_output_index + r.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hedgespec.speculative.proposal import propose
from hedgespec.types import Method, SparseRows

Rows = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Values = NDArray[np.float32]


def realised_acceptance(
    rows: SparseRows,
    token_ids: NDArray[np.int32],
    target_probs: NDArray[np.float32],
    method: Method,
    noise_seed: int,
    first_output_index: int,
) -> NDArray[np.float32]:
    """The probability a that the drafter proposes a token that is accepted, given that the target emitted `token_ids`.

    token_ids, target_probs: [num_rows]. rejection: min(1, q(x) / p(x)); greedy and coupled: 1 if the proposal is x,
    else 0. Returns [num_rows].
    """
    if method == "rejection":
        return _ratio(draft_probs_of(rows, token_ids), target_probs).astype(np.float32)
    hits = np.zeros(rows.num_rows, np.float32)
    for row, token in enumerate(token_ids.tolist()):
        ids, probs = rows.row(row)
        hits[row] = propose(ids, probs, method, noise_seed, first_output_index + row, 0) == token
    return hits


def acceptance_prob(
    rows: SparseRows,
    token_ids: NDArray[np.int32],
    target_probs: NDArray[np.float32],
    target_top: SparseRows,
) -> NDArray[np.float32]:
    """An estimate of gamma = sum_x min(p(x), q(x)) per row that is unbiased over the realised token; [num_rows].

    target_top: the target's largest probabilities S. gamma = sum_{x in S} min(p, q) + 1{x_t not in S} min(1, q/p)(x_t):
    the second term stands for the mass outside S. At temperature 0 both laws are one-hot and gamma is the 0/1 hit.
    """
    row_of_entry = np.repeat(np.arange(target_top.num_rows), np.diff(target_top.offsets))
    overlap = np.minimum(target_top.probs, _lookup(rows, row_of_entry, target_top.ids))
    inside = np.bincount(row_of_entry, weights=overlap, minlength=rows.num_rows)
    is_sent = np.bincount(row_of_entry, weights=target_top.ids == token_ids[row_of_entry], minlength=rows.num_rows) > 0
    outside = np.where(is_sent, 0.0, _ratio(draft_probs_of(rows, token_ids), target_probs))
    return (inside + outside).astype(np.float32)


def prompt_overlap(draft_probs: Callable[[Rows, Rows], Floats], prompt_top: SparseRows, known: Bools) -> Values:
    """sum_x min(p(x), q(x)) over the ids that were sent of each prompt token's law: [num_rows], 0 where not `known`.

    draft_probs: the drafter's probabilities of ids, asked with the index among the known rows and the id of each entry
    """
    row_of_entry = np.repeat(np.arange(prompt_top.num_rows), np.diff(prompt_top.offsets))
    entries = known[row_of_entry]
    own_row = np.cumsum(known) - 1
    overlap = np.zeros(len(row_of_entry))
    values = draft_probs(own_row[row_of_entry[entries]], prompt_top.ids[entries].astype(np.int64))
    overlap[entries] = np.minimum(prompt_top.probs[entries], values)
    return np.bincount(row_of_entry, weights=overlap, minlength=prompt_top.num_rows).astype(np.float32)


def draft_probs_of(rows: SparseRows, token_ids: NDArray[np.int32]) -> NDArray[np.float64]:
    """The probability that each row gives to its realised token: [num_rows]."""
    return _lookup(rows, np.arange(rows.num_rows), token_ids)


def _lookup(rows: SparseRows, row_indices: NDArray[np.int64], ids: NDArray[np.int32]) -> NDArray[np.float64]:
    """rows[row_indices[k]] at ids[k], 0 where the id is absent: [num_queries]."""
    stride = 1 + max(int(rows.ids.max(initial=0)), int(ids.max(initial=0)))
    keys = np.repeat(np.arange(rows.num_rows), np.diff(rows.offsets)) * stride + rows.ids
    order = np.argsort(keys)
    queries = row_indices * stride + ids
    if not len(keys):
        return np.zeros(len(queries))
    place = order[np.minimum(np.searchsorted(keys, queries, sorter=order), len(keys) - 1)]
    return np.where(keys[place] == queries, rows.probs[place].astype(np.float64), 0.0)


def _ratio(draft_probs: NDArray[np.float64], target_probs: NDArray[np.float32]) -> NDArray[np.float64]:
    """min(1, q / p), where a p that was rounded to 0 counts as tiny."""
    target = np.maximum(target_probs.astype(np.float64), np.finfo(np.float32).tiny)
    return np.minimum(draft_probs / target, 1.0)
