"""Merging drafts: shared paths once, sampled ones side by side, never more than the budget."""

from __future__ import annotations

import numpy as np

from hedgespec.speculative.merging import merge
from hedgespec.types import DraftTree, SparseRows


def chain(*tokens: int) -> DraftTree:
    return DraftTree.chain(np.array(tokens, np.int32))


def paths(tree: DraftTree) -> set[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    for token, parent in zip(tree.token_ids.tolist(), tree.parent.tolist(), strict=True):
        found.append((*(found[parent] if parent >= 0 else ()), token))
    return set(found)


def test_paths_that_drafters_agree_on_are_kept_once_and_credited_to_the_heavier() -> None:
    merged = merge([(2, chain(5, 6, 7)), (0, chain(5, 6, 9)), (1, chain(4))], 10)
    assert paths(merged) == {(5,), (5, 6), (5, 6, 7), (5, 6, 9), (4,)}
    assert merged.num_nodes == 5
    assert merged.drafter_index is not None
    assert merged.drafter_index.tolist() == [2, 2, 2, 0, 1]


def test_the_budget_cuts_the_lighter_drafts_first_and_leaves_a_tree() -> None:
    merged = merge([(0, chain(1, 2, 3)), (1, chain(4, 5, 6))], 4)
    assert paths(merged) == {(1,), (1, 2), (1, 2, 3), (4,)}
    assert (merged.parent < np.arange(4)).all()


def test_a_full_budget_still_credits_nothing_to_a_drafter_that_only_repeats() -> None:
    merged = merge([(0, chain(1, 2)), (1, chain(1, 2))], 2)
    assert merged.num_nodes == 2
    assert merged.drafter_index is not None
    assert merged.drafter_index.tolist() == [0, 0]


def test_sampled_drafts_stay_side_by_side_with_their_own_distributions() -> None:
    """Agreement is kept twice, and a draft that was certain gets all of its mass on its token."""
    rows = SparseRows(np.array([0, 2], np.int32), np.array([5, 8], np.int32), np.array([0.25, 0.75], np.float32))
    sampled = DraftTree.chain(np.array([5], np.int32), rows)
    merged = merge([(0, sampled), (1, sampled), (2, chain(5))], 10)
    assert merged.token_ids.tolist() == [5, 5, 5]
    assert merged.parent.tolist() == [-1, -1, -1]
    assert merged.draft_probs is not None
    assert [merged.draft_probs.row(i)[1].tolist() for i in range(3)] == [[0.25, 0.75], [0.25, 0.75], [1.0]]
