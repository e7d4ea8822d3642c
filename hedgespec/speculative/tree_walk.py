"""How a draft tree is accepted: one walk from the root, the same rule for everything that is more than a chain.

`rejection` is recursive rejection sampling (SpecInfer; Sequoia; EAGLE for deterministic trees). At a node its children
are tried in order. Child x, drawn from q given its earlier siblings, is kept with probability min(1, P(x) / q(x)), where
P is at first the target's law p; after a rejection P becomes max(P - q, 0), normalised. If no child is kept, the token
is drawn from the last P. Conditioned on what was rejected so far the token to emit must follow P, and one step of
ordinary rejection sampling keeps that true, so the emitted token follows p whatever the laws are. It holds for iid
samples, samples without replacement, children of several drafters, and for tokens chosen with certainty: q is then
one-hot, x is kept with probability P(x), and the node as a whole accepts with the summed p of its children.

`greedy` and `coupled` emit the target's own token and follow the child that guessed it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hedgespec.speculative.validation import SparseLaw, node_law
from hedgespec.types import DraftTree

Floats = NDArray[np.float64]

Keep = Callable[[int, int, float], bool]
"""(depth of the token below the last verified one, from 0; ordinal among its siblings; probability) -> whether to keep."""


def walk_rejection(tree: DraftTree, law_after: Callable[[int], Floats], keep: Keep) -> tuple[list[int], Floats]:
    """-> (accepted nodes, root first; the law of the token that follows them, [vocab], sums to 1).

    law_after: node, or -1 for the last verified token -> the target's processed law after it, [vocab]
    """
    children = children_of(tree)
    path: list[int] = []
    node = -1
    while True:
        law = normalised(law_after(node))
        for ordinal, child in enumerate(children[node]):
            ids, probs = node_law(tree, child)
            token = int(tree.token_ids[child])
            if keep(len(path), ordinal, min(1.0, law[token] / float(probs[ids == token].sum()))):
                node = child
                path.append(child)
                break
            law = rest_law(law, (ids, probs))
        else:
            return path, law


def walk_match(tree: DraftTree, own_token: Callable[[int, int], int]) -> tuple[list[int], int]:
    """-> (accepted nodes, root first; the target's own token after them).

    own_token: (node or -1, number of accepted nodes so far) -> the token that the target emits there
    """
    children = children_of(tree)
    path: list[int] = []
    node, token = -1, own_token(-1, 0)
    while True:
        guessed = [child for child in children[node] if int(tree.token_ids[child]) == token]
        if not guessed:
            return path, token
        node = guessed[0]  # siblings that say the same: the first one's subtree is followed
        path.append(node)
        token = own_token(node, len(path))


def children_of(tree: DraftTree) -> dict[int, list[int]]:
    """Node, or -1 for the last verified token -> its children, in the order in which they are tried."""
    children: dict[int, list[int]] = {node: [] for node in range(-1, tree.num_nodes)}
    for node, parent in enumerate(tree.parent.tolist()):
        children[parent].append(node)
    return children


def path_tokens(tree: DraftTree) -> list[list[int]]:
    """Per row of the target's block (the last verified token, then every node), the draft tokens up to it."""
    paths: list[list[int]] = [[]]
    for token, parent in zip(tree.token_ids.tolist(), tree.parent.tolist(), strict=True):
        paths.append([*paths[parent + 1], token])
    return paths


def normalised(law: Floats) -> Floats:
    total: Floats = np.asarray(law, np.float64) / np.sum(law, dtype=np.float64)
    return total


def rest_law(law: Floats, draft_law: SparseLaw) -> Floats:
    """max(P - q, 0), normalised. P itself where nothing is left, which only rounding can bring about."""
    ids, probs = draft_law
    rest = law.copy()
    rest[ids] = np.maximum(rest[ids] - probs, 0.0)
    return normalised(rest) if rest.sum() > 0.0 else law
