"""Drafts of several drafters as one tree, so that one target pass verifies all of them. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hedgespec.speculative.proposal import concatenate
from hedgespec.types import DraftTree, SparseRows


def merge(drafts: Sequence[tuple[int, DraftTree]], budget: int) -> DraftTree:
    """One tree of at most `budget` nodes; each node's drafter is in its drafter_index.

    drafts: (drafter index, draft), heaviest first; what goes beyond the budget is cut from the end. Sampled ones must have
        been drawn independently of each other (`noise.drafter_seed`)
    Drafts that were chosen with certainty share the paths that they agree on, and the heavier drafter is credited with
    them. Sampled drafts (with draft_probs) stay side by side, also where they agree: `rejection` tries siblings one after
    the other, each against the distribution that it came from, and one node for two draws would change the law of the
    output. What is cut depends on the sizes of the drafts, never on the noise that decides what is accepted.
    """
    is_sampled = any(tree.draft_probs is not None for _, tree in drafts)
    tokens: list[int] = []
    parents: list[int] = []
    owners: list[int] = []
    rows: list[SparseRows] = []
    place_of: dict[tuple[int, int], int] = {}
    for index, tree in drafts:
        places: list[int] = []
        for node, (token, parent) in enumerate(zip(tree.token_ids.tolist(), tree.parent.tolist(), strict=True)):
            above = -1 if parent < 0 else places[parent]
            place = None if is_sampled else place_of.get((above, token))
            if place is None:
                if len(tokens) == budget:
                    break  # parents come first, so what follows cannot be a whole path either
                place = place_of[above, token] = len(tokens)
                tokens.append(token)
                parents.append(above)
                owners.append(index)
                if is_sampled:
                    rows.append(_row(tree, node))
            places.append(place)
    return DraftTree(
        token_ids=np.array(tokens, np.int32),
        parent=np.array(parents, np.int32),
        draft_probs=concatenate(rows) if is_sampled else None,
        drafter_index=np.array(owners, np.int16),
    )


def _row(tree: DraftTree, node: int) -> SparseRows:
    """The node's distribution; one that was chosen with certainty has all of it on its token."""
    if tree.draft_probs is None:
        ids: NDArray[np.int32] = tree.token_ids[node : node + 1]
        probs = np.ones(1, np.float32)
    else:
        ids, probs = tree.draft_probs.row(node)
    return SparseRows(np.array([0, len(ids)], np.int32), ids, probs)
