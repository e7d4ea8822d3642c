"""Drafts of several drafters, verified in one pass (NumPy only)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hedgespec.types import DraftTree, SparseRows


def merge(drafts: Sequence[tuple[int, DraftTree]], budget: int) -> DraftTree:
    """One tree of all drafts, with drafter_index; at most `budget` nodes, those of later drafts are left out first.

    drafts: (drafter index, its draft), the one to try first at the front: siblings are tried in order, and what the first
        ones take is no longer there for the others.

    Proposals that were chosen with certainty, or that must equal the target's own token, are merged by common beginnings;
    a node belongs to the first drafter that proposed it. Sampled ones (draft_probs) hang side by side: a token that two
    drafters sampled stands for two draws from two laws, and counting it as one would change the law of the output. Which
    nodes are left out depends on the sizes of the drafts alone, never on the noise that decides what is accepted.
    """
    if any(tree.draft_probs is not None for _, tree in drafts):
        return _side_by_side(drafts, budget)
    tokens: list[int] = []
    parents: list[int] = []
    owners: list[int] = []
    known: dict[tuple[int, int], int] = {}
    for index, tree in drafts:
        places: list[int] = []
        for token, parent in zip(tree.token_ids.tolist(), tree.parent.tolist(), strict=True):
            above = -1 if parent < 0 else places[parent]
            place = known.get((above, token))
            if place is None:
                if len(tokens) >= budget:  # what follows may still stand on known nodes, but it is new as well
                    break
                place = known[above, token] = len(tokens)
                tokens.append(token)
                parents.append(above)
                owners.append(index)
            places.append(place)
    return DraftTree(np.array(tokens, np.int32), np.array(parents, np.int32), drafter_index=np.array(owners, np.int16))


def _side_by_side(drafts: Sequence[tuple[int, DraftTree]], budget: int) -> DraftTree:
    kept: list[tuple[int, DraftTree, int]] = []
    num_left = budget
    for index, tree in drafts:
        num_nodes = min(tree.num_nodes, num_left)
        num_left -= num_nodes
        kept.append((index, tree, num_nodes))
    parents = []
    first = 0
    for _, tree, num_nodes in kept:
        own = tree.parent[:num_nodes]
        parents.append(np.where(own < 0, -1, own + first))
        first += num_nodes
    return DraftTree(
        np.concatenate([tree.token_ids[:num_nodes] for _, tree, num_nodes in kept]).astype(np.int32),
        np.concatenate(parents).astype(np.int32),
        _laws([(tree.draft_probs, num_nodes) for _, tree, num_nodes in kept]),
        drafter_index=np.concatenate([np.full(num_nodes, index, np.int16) for index, _, num_nodes in kept]),
    )


def _laws(parts: Sequence[tuple[SparseRows | None, int]]) -> SparseRows:
    """The first rows of each part. An empty draft has no laws to give."""
    lengths, ids, probs = [np.zeros(1, np.int32)], [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
    for rows, num_rows in parts:
        if rows is not None:
            end = int(rows.offsets[num_rows])
            lengths.append(np.diff(rows.offsets[: num_rows + 1]))
            ids.append(rows.ids[:end])
            probs.append(rows.probs[:end])
    return SparseRows(np.cumsum(np.concatenate(lengths)).astype(np.int32), np.concatenate(ids), np.concatenate(probs))
