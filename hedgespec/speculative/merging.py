"""Drafts of several drafters are merged into one tree, so that one target pass verifies all of them. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hedgespec.speculative.sparse_rows import TokenDistribution, rows_of
from hedgespec.types import DraftTree


def merge(drafts: Sequence[tuple[int, DraftTree]], budget: int) -> DraftTree:
    """Return one tree of at most `budget` nodes; each node's drafter is in its drafter_index.

    drafts: (drafter index, draft), heaviest first; what goes beyond the budget is cut from the end. Sampled ones must have
        been drawn independently of each other (`noise.drafter_seed`)
    Drafts that were chosen with certainty share the paths that they agree on, and the heavier drafter is credited with
    them. Sampled drafts (with draft_probs) stay side by side, also where they agree: `rejection` tries siblings one after
    the other, each against the distribution that it came from, and one node for two draws would change what the output
    follows. What is cut depends on the sizes of the drafts, never on the noise that decides what is accepted.
    """
    is_sampled = any(tree.draft_probs is not None for _, tree in drafts)
    tokens: list[int] = []
    parents: list[int] = []
    owners: list[int] = []
    distributions: list[TokenDistribution] = []
    merged_of: dict[tuple[int, int], int] = {}
    for index, tree in drafts:
        own_nodes: list[int] = []
        for node, (token, parent) in enumerate(zip(tree.token_ids.tolist(), tree.parent.tolist(), strict=True)):
            above = -1 if parent < 0 else own_nodes[parent]
            merged = None if is_sampled else merged_of.get((above, token))
            if merged is None:
                if len(tokens) == budget:
                    break  # parents come first, so what follows cannot be a whole path either
                merged = merged_of[above, token] = len(tokens)
                tokens.append(token)
                parents.append(above)
                owners.append(index)
                if is_sampled:
                    distributions.append(_distribution(tree, node))
            own_nodes.append(merged)
    return DraftTree(
        token_ids=np.array(tokens, np.int32),
        parent=np.array(parents, np.int32),
        draft_probs=rows_of(distributions) if is_sampled else None,
        drafter_index=np.array(owners, np.int16),
    )


def _distribution(tree: DraftTree, node: int) -> TokenDistribution:
    """The node's distribution as it travels; a token that was chosen with certainty has all of it."""
    if tree.draft_probs is None:
        return tree.token_ids[node : node + 1], np.ones(1, np.float32)
    return tree.draft_probs.row(node)
