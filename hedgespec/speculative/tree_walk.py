"""A draft tree or multi-draft is accepted by one walk from the root, on the host.

`rejection` is recursive rejection sampling (Miao et al. 2024, SpecInfer; Chen et al. 2024, Sequoia; Li et al. 2024a,
EAGLE, for deterministic trees). At a node its children are tried in order. Child x, drawn from q given its earlier
siblings, is kept with probability min(1, P(x) / q(x)), where P is at first the target's distribution p; after a rejection P
becomes max(P - q, 0), normalised. If no child is kept, the token is drawn from the last P. Conditioned on what was rejected
so far the token to emit must follow P, and one step of ordinary rejection sampling keeps that true, so the emitted token
follows p whatever the draft distributions are. It holds for iid samples, samples without replacement, children of several
drafters, and for tokens chosen with certainty: q is then one-hot, x is kept with probability P(x), and the node as a whole
accepts with the summed p of its children.

`greedy` and `coupled` emit the target's own token and follow the child that guessed it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.speculative.chain_rejection import inverse_cdf
from hedgespec.speculative.noise import Purpose, gumbel_argmax, uniform, uniforms
from hedgespec.speculative.validation import draft_distribution
from hedgespec.speculative.verification import Emitted, VerifyContext
from hedgespec.types import DraftTree

Floats = NDArray[np.float64]

Keep = Callable[[int, int, float], bool]
"""(depth of the token below the last verified one, from 0; ordinal among its siblings; probability) -> whether to keep."""


def walk_tree(tree: DraftTree, probs: Tensor, context: VerifyContext) -> Emitted:
    """Decide one draft by its session's noise. probs: [num_nodes + 1, vocab], the target's distributions.

    Siblings have accept noise of their own; the first one's is that of a chain.
    """
    if context.params.method == "rejection":

        def keep(depth: int, ordinal: int, prob: float) -> bool:
            index = context.first_output_index + depth
            return bool(uniforms(context.noise_seed, index, Purpose.ACCEPT, ordinal) < prob)

        path, rest = walk_rejection(tree, lambda node: probs[node + 1].double().cpu().numpy(), keep)
        point = uniform(context.noise_seed, context.first_output_index + len(path), Purpose.RECOVER)
        last = int(inverse_cdf(torch.from_numpy(rest)[None], torch.tensor([point], dtype=torch.float64)))
    else:
        best = probs.argmax(dim=-1).tolist() if context.params.method == "greedy" else []
        ids = np.arange(probs.shape[1], dtype=np.int32)

        def own_token(node: int, num_accepted: int) -> int:
            if best:
                return int(best[node + 1])
            row = probs[node + 1].cpu().numpy()
            return gumbel_argmax(ids, row, context.noise_seed, context.first_output_index + num_accepted)

        path, last = walk_match(tree, own_token)
    tokens = [*tree.token_ids[path].tolist(), last]
    return Emitted(path, tokens, probs[[0, *(node + 1 for node in path)], tokens].cpu().numpy())


def walk_rejection(
    tree: DraftTree, distribution_after: Callable[[int], Floats], keep: Keep
) -> tuple[list[int], Floats]:
    """Return the accepted nodes, root first, and the distribution of the token that follows them, [vocab].

    distribution_after: node, or -1 for the last verified token -> the target's distribution after it, [vocab]
    """
    children = children_of(tree)
    path: list[int] = []
    node = -1
    while True:
        target_probs = normalised(distribution_after(node))
        for ordinal, child in enumerate(children[node]):
            ids, probs = draft_distribution(tree, child)
            token = int(tree.token_ids[child])
            if keep(len(path), ordinal, min(1.0, target_probs[token] / float(probs[ids == token].sum()))):
                node = child
                path.append(child)
                break
            target_probs = residual_row(target_probs, ids, probs)
        else:
            return path, target_probs


def walk_match(tree: DraftTree, own_token: Callable[[int, int], int]) -> tuple[list[int], int]:
    """Return the accepted nodes, root first, and the target's own token after them.

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
    """Map each node, and -1 for the last verified token, to its children in the order in which they are tried."""
    children: dict[int, list[int]] = {node: [] for node in range(-1, tree.num_nodes)}
    for node, parent in enumerate(tree.parent.tolist()):
        children[parent].append(node)
    return children


def path_tokens(tree: DraftTree) -> list[list[int]]:
    """List, per row of the target's block (the last verified token, then every node), the draft tokens up to it."""
    paths: list[list[int]] = [[]]
    for token, parent in zip(tree.token_ids.tolist(), tree.parent.tolist(), strict=True):
        paths.append([*paths[parent + 1], token])
    return paths


def normalised(probs: Floats) -> Floats:
    total: Floats = np.asarray(probs, np.float64) / np.sum(probs, dtype=np.float64)
    return total


def residual_row(target_probs: Floats, draft_ids: NDArray[np.int64], draft_probs: Floats) -> Floats:
    """`chain_rejection.residual` of one row. In NumPy, since a walk asks child by child: a tensor operator costs more than
    its arithmetic on one row."""
    rest = target_probs.copy()
    rest[draft_ids] = np.maximum(rest[draft_ids] - draft_probs, 0.0)
    return normalised(rest) if rest.sum() > 0.0 else target_probs
