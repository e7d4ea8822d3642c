"""A draft is checked before the target's pass: whatever passes can be verified without loss. NumPy only.

A draft that does not pass is answered with InvalidDraft, and the round goes on without speculation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hedgespec.errors import InvalidDraft
from hedgespec.types import CHAIN, MAX_SPARSE_IDS, DraftForm, DraftTree, Method, SparseRows

MAX_NODES = 128
"""The longest draft: its nodes are rows of the target's pass, which many sessions share."""

SUM_TOLERANCE = 1e-3
"""How far a draft distribution may be from summing to 1; it is normalised before use."""


def validate_tree(
    tree: DraftTree, method: Method, vocab_size: int, max_draft_tokens: int, form: DraftForm = CHAIN
) -> None:
    """Raise InvalidDraft, saying what is wrong, unless `tree` can be verified by `method`.

    max_draft_tokens: on one path
    form: of the session's drafts; only those of kind "tree" may come without draft_probs under `rejection`. Sampled tokens
        without their distributions would be verified as if they were certain, which is lossless as well but accepts far
        fewer of them: a drafter's mistake that must not pass unseen
    """
    num_nodes = tree.num_nodes
    if tree.token_ids.ndim != 1 or tree.parent.shape != tree.token_ids.shape:
        raise InvalidDraft(f"{num_nodes} draft tokens but parents of shape {tree.parent.shape}; send one per token")
    if num_nodes == 0:
        return
    if num_nodes > MAX_NODES:
        raise InvalidDraft(f"{num_nodes} draft tokens, at most {MAX_NODES} are allowed in one draft")
    if tree.token_ids.min() < 0 or tree.token_ids.max() >= vocab_size:
        raise InvalidDraft(f"draft token ids must lie in [0, {vocab_size}), got {tree.token_ids.tolist()}")
    if tree.parent.min() < -1 or (tree.parent >= np.arange(num_nodes)).any():
        raise InvalidDraft(f"a node's parent must be an earlier node or -1, got {tree.parent.tolist()}")
    if tree.depth > max_draft_tokens:
        raise InvalidDraft(f"{tree.depth} draft tokens in a row, at most {max_draft_tokens} are allowed")
    if tree.drafter_index is not None and tree.drafter_index.shape != tree.token_ids.shape:
        raise InvalidDraft(f"{num_nodes} draft tokens but drafters of shape {tree.drafter_index.shape}")
    if method == "rejection" and not (tree.draft_probs is None and form.kind == "tree"):
        if tree.draft_probs is None:
            raise InvalidDraft("rejection needs draft_probs, the distribution that each draft token was sampled from")
        _validate_draft_probs(tree.draft_probs, num_nodes, vocab_size)
        draft_distributions(tree)


def draft_distribution(tree: DraftTree, node: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return ids and probabilities of the distribution that the node's token was drawn from.

    It is the row that travelled, normalised in float64; in a deterministic tree all of its mass is on the token.
    """
    if tree.draft_probs is None:
        return tree.token_ids[node : node + 1].astype(np.int64), np.ones(1)
    ids, probs = tree.draft_probs.row(node)
    values = probs.astype(np.float64)
    return ids.astype(np.int64), values / values.sum()


class DraftDistributions(NamedTuple):
    """The `draft_distribution` of every node.

    ids, probs: [num_nodes, num_ids], rows filled up with entries without mass
    own:        [num_nodes], the drafter's probability of each of its tokens, all positive
    """

    ids: NDArray[np.int64]
    probs: NDArray[np.float64]
    own: NDArray[np.float64]


def draft_distributions(tree: DraftTree) -> DraftDistributions:
    """Return the distributions of all nodes of a tree that has any.

    Raises InvalidDraft for a token outside its own distribution: accepting it would change what the output follows.
    """
    tokens = tree.token_ids.astype(np.int64)[:, None]
    if tree.draft_probs is None:
        return DraftDistributions(tokens, np.ones(tokens.shape), np.ones(len(tokens)))
    lengths = np.diff(tree.draft_probs.offsets)
    is_there = np.arange(lengths.max()) < lengths[:, None]
    ids, probs = np.zeros(is_there.shape, np.int64), np.zeros(is_there.shape)
    ids[is_there], probs[is_there] = tree.draft_probs.ids, tree.draft_probs.probs
    probs /= probs.sum(axis=1, keepdims=True)
    own = (probs * (ids == tokens)).sum(axis=1)
    if own.min() <= 0.0:
        node = int((own <= 0.0).argmax())
        raise InvalidDraft(
            f"draft token {tree.token_ids[node]} of node {node} has no mass in its own draft distribution"
        )
    return DraftDistributions(ids, probs, own)


def _validate_draft_probs(rows: SparseRows, num_nodes: int, vocab_size: int) -> None:
    if rows.num_rows != num_nodes:
        raise InvalidDraft(f"{rows.num_rows} draft distributions for {num_nodes} draft tokens; send one per token")
    lengths = np.diff(rows.offsets)
    num_entries = len(rows.ids)
    if rows.offsets[0] != 0 or lengths.min() < 1 or rows.offsets[-1] != num_entries or len(rows.probs) != num_entries:
        raise InvalidDraft(
            f"row lengths {lengths.tolist()} do not fit {num_entries} ids, {len(rows.probs)} probabilities"
        )
    if lengths.max() > MAX_SPARSE_IDS:
        raise InvalidDraft(f"a draft distribution has {lengths.max()} ids, at most {MAX_SPARSE_IDS} may travel")
    if rows.ids.min() < 0 or rows.ids.max() >= vocab_size:
        raise InvalidDraft(f"ids of a draft distribution must lie in [0, {vocab_size})")
    if not np.isfinite(rows.probs).all() or rows.probs.min() < 0:
        raise InvalidDraft("draft probabilities must be finite and not negative")
    sums = np.add.reduceat(rows.probs.astype(np.float64), rows.offsets[:-1])
    if np.abs(sums - 1).max() > SUM_TOLERANCE:
        raise InvalidDraft(f"draft distributions must sum to 1, got sums {np.round(sums, 6).tolist()}")
    row_of_entry = np.repeat(np.arange(num_nodes), lengths)
    if len(np.unique(row_of_entry * vocab_size + rows.ids)) != num_entries:
        raise InvalidDraft("an id stands twice in one draft distribution")
