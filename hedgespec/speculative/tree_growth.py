"""The dynamic tree of EAGLE-2 and EAGLE-3 (design 4.2) is bookkeeping: which nodes to expand, which to keep. NumPy only.

Every level expands its best `branching` nodes to `branching` children each; a node's score is the sum of the log weights
on its path. At the end the best num_nodes of all nodes are kept. Scores never rise along a path, so that a node's
ancestors are kept before it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np

from hedgespec.speculative.proposal import Children
from hedgespec.types import DraftTree

ROOT = -1


class TreeGrowth:
    """A tree that grows by one level per `extend`, until `frontier` is empty.

    num_levels:  nodes on the longest path
    branching:   nodes that are expanded per level, and children of each
    num_nodes:   nodes that are kept in the end
    realised:    the tokens that were emitted after the root, for a tree that is only drafted to be scored: it stops
                 growing as soon as it is certain how far they can be followed
    frontier:    nodes whose children are wanted, first [ROOT]; parent_rows says which rows of the frontier before this
                 one their parents were
    """

    def __init__(self, num_levels: int, branching: int, num_nodes: int, realised: Sequence[int] | None = None) -> None:
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.frontier: list[int] = [ROOT] if num_levels > 0 and num_nodes > 0 else []
        self.parent_rows: list[int] = []
        self._num_levels = num_levels
        self._branching = branching
        self._num_nodes = num_nodes
        self._realised = realised
        self._scores: list[float] = []
        self._best: list[float] = []  # the num_nodes largest scores, negated, rising
        self._path: list[int] = []
        self._is_on_path = realised is not None
        self._level = 0

    def extend(self, children: Sequence[Children]) -> None:
        """Add the children of every node of the frontier, in its order."""
        before, first_new = self.frontier, len(self.tokens)
        for node, (ids, log_weights) in zip(before, children, strict=True):
            score = 0.0 if node == ROOT else self._scores[node]
            for token, log_weight in zip(ids.tolist(), log_weights.tolist(), strict=True):
                self.tokens.append(token)
                self.parents.append(node)
                self._scores.append(score + log_weight)
                insort(self._best, -self._scores[-1])
        del self._best[self._num_nodes :]
        self._level += 1
        self._follow(first_new)
        row_of = {node: row for row, node in enumerate(before)}
        ranked = sorted(range(first_new, len(self.tokens)), key=lambda node: (-self._scores[node], node))
        beams = ranked[: self._branching] if self._level < self._num_levels else []
        if len(self._path) == self._level and self._path[-1] not in beams:
            self._is_on_path = False  # it gets no children
        self.frontier = [node for node in beams if self._is_worth_expanding(node)]
        self.parent_rows = [row_of[self.parents[node]] for node in self.frontier]

    def ancestors(self) -> list[list[int]]:
        """List, per node of the frontier, the tokens on its path from the root."""
        return [self._path_to(node) for node in self.frontier]

    def finished(self, drafter_id: str = "") -> DraftTree:
        """Return the best num_nodes nodes, best first: every beginning of them is a tree too."""
        ranked = sorted(range(len(self.tokens)), key=lambda node: (-self._scores[node], node))
        kept = ranked[: self._num_nodes]
        index_of = {ROOT: ROOT} | {node: index for index, node in enumerate(kept)}
        tokens = np.array([self.tokens[node] for node in kept], np.int32)
        parents = np.array([index_of[self.parents[node]] for node in kept], np.int32)
        return DraftTree(tokens, parents, drafter_id=drafter_id)

    def _follow(self, first_new: int) -> None:
        """Find the realised token of this level among the new children of the last node on the realised path."""
        if not self._is_on_path or self._realised is None or self._level > len(self._realised):
            return
        last = self._path[-1] if self._path else ROOT
        token = self._realised[self._level - 1]
        found = [n for n in range(first_new, len(self.tokens)) if self.parents[n] == last and self.tokens[n] == token]
        self._path += found[:1]
        self._is_on_path = bool(found)

    def _is_worth_expanding(self, node: int) -> bool:
        """False when no child of it can be kept, or none could push out a node of the realised path, which has ended.

        A child never scores more than its parent, and among equals the earlier one is kept.
        """
        score = self._scores[node]
        if len(self._best) >= self._num_nodes and score <= -self._best[-1]:
            return False
        if self._realised is None or self._is_on_path:
            return True
        still_kept = [s for s in (self._scores[n] for n in self._path) if bisect_left(self._best, -s) < self._num_nodes]
        return bool(still_kept) and score > still_kept[-1]

    def _path_to(self, node: int) -> list[int]:
        path: list[int] = []
        while node != ROOT:
            path.append(self.tokens[node])
            node = self.parents[node]
        return path[::-1]
