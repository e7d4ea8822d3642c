"""The dynamic tree: what is kept equals a naive evaluation of EAGLE's rule, with and without a text to follow."""

from __future__ import annotations

import numpy as np
import pytest

from hedgespec.speculative.proposal import Children
from hedgespec.speculative.tree_growth import TreeGrowth
from hedgespec.types import DraftTree

VOCAB = 7


def children_of(seed: int, path: list[int], branching: int) -> Children:
    """The best children after a path, by a random distribution of its own."""
    logits = 1.5 * np.random.default_rng([seed, *path]).normal(size=VOCAB)
    logs = logits - np.log(np.exp(logits).sum())
    ids = np.argsort(-logs)[:branching].astype(np.int32)
    return ids, logs[ids]


def naive_tree(seed: int, levels: int, branching: int, num_nodes: int) -> list[tuple[int, ...]]:
    """Paths of the kept nodes, best first: no beam is ever left out."""
    nodes: dict[tuple[int, ...], float] = {}
    beams: dict[tuple[int, ...], float] = {(): 0.0}
    for _ in range(levels):
        new = {}
        for path, score in beams.items():
            ids, logs = children_of(seed, list(path), branching)
            new |= {(*path, int(t)): score + float(w) for t, w in zip(ids, logs, strict=True)}
        nodes |= new
        beams = dict(sorted(new.items(), key=lambda item: -item[1])[:branching])
    return sorted(nodes, key=lambda path: -nodes[path])[:num_nodes]


def grown(
    seed: int, levels: int, branching: int, num_nodes: int, realised: list[int] | None = None
) -> tuple[DraftTree, int]:
    """The tree, and how many nodes were expanded for it."""
    growth, num_expanded = TreeGrowth(levels, branching, num_nodes, realised), 0
    while growth.frontier:
        num_expanded += len(growth.frontier)
        growth.extend([children_of(seed, path, branching) for path in growth.ancestors()])
    return growth.finished("d"), num_expanded


def paths(tree: DraftTree) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    for token, parent in zip(tree.token_ids.tolist(), tree.parent.tolist(), strict=True):
        found.append((*(found[parent] if parent >= 0 else ()), token))
    return found


def num_followed(tree: DraftTree, realised: list[int]) -> int:
    kept, length = set(paths(tree)), 0
    while length < len(realised) and tuple(realised[: length + 1]) in kept:
        length += 1
    return length


SHAPES = [(4, 3, 12), (4, 3, 5), (5, 2, 30), (1, 4, 3), (3, 1, 9), (6, 4, 10), (4, 3, 1)]


@pytest.mark.parametrize(("levels", "branching", "num_nodes"), SHAPES)
def test_the_kept_nodes_are_eagles_best_first(levels: int, branching: int, num_nodes: int) -> None:
    for seed in range(40):
        tree, _ = grown(seed, levels, branching, num_nodes)
        assert paths(tree) == naive_tree(seed, levels, branching, num_nodes)
        assert (tree.parent < np.arange(tree.num_nodes)).all()


def test_beams_that_cannot_matter_are_not_expanded() -> None:
    """A small budget stops the growth early; the test above says that nothing else changes."""
    few = sum(grown(seed, 6, 4, 4)[1] for seed in range(20))
    many = sum(grown(seed, 6, 4, 60)[1] for seed in range(20))
    assert few < many / 2


@pytest.mark.parametrize(("levels", "branching", "num_nodes"), SHAPES)
def test_a_tree_grown_for_a_text_says_how_far_it_can_be_followed(levels: int, branching: int, num_nodes: int) -> None:
    """Exact for every text, also for one that ends inside of the tree; and cheaper where the text leaves it soon."""
    rng = np.random.default_rng(1)
    expanded, whole = 0, 0
    for seed in range(60):
        full, cost = grown(seed, levels, branching, num_nodes)
        candidates = [list(path) for path in naive_tree(seed, levels, branching, 10**6)]
        base = candidates[int(rng.integers(len(candidates)))]
        realised = [
            *base[: int(rng.integers(len(base) + 1))],
            *rng.integers(0, VOCAB, int(rng.integers(1, 4))).tolist(),
        ]
        partial, own_cost = grown(seed, levels, branching, num_nodes, realised)
        assert num_followed(partial, realised) == num_followed(full, realised)
        inside = realised[: num_followed(full, realised)]
        if inside:
            unfinished, _ = grown(seed, levels, branching, num_nodes, inside)
            for token in range(VOCAB):
                longer = [*inside, token]
                assert num_followed(unfinished, longer) == num_followed(full, longer), "the text may go on later"
        expanded, whole = expanded + own_cost, whole + cost
    assert expanded <= whole
    if levels > 1 and branching > 1 and num_nodes > branching:
        assert expanded < 0.9 * whole


def test_a_node_without_children_ends_its_branch() -> None:
    nothing = np.zeros(0, np.int32), np.zeros(0)
    growth = TreeGrowth(3, 2, 6)
    growth.extend([(np.array([4, 5], np.int32), np.array([-0.1, -2.0]))])
    growth.extend([nothing, (np.array([1], np.int32), np.array([0.0]))])
    growth.extend([nothing])
    assert not growth.frontier
    assert paths(growth.finished()) == [(4,), (5,), (5, 1)]


def test_nothing_is_grown_without_levels_or_nodes() -> None:
    assert not TreeGrowth(0, 3, 5).frontier
    assert TreeGrowth(3, 3, 0).finished().num_nodes == 0
