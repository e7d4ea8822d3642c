"""The shadow cursor scores draft trees by replaying which rounds a drafter would have had on the verified text.

It is as if this drafter had drafted all of the text alone. The cursor drafts a tree where its last one ended and follows
the realised tokens through it. A tree is a function of the text, and a realised token that it contains was accepted for
certain, so the entries are 0 or 1 and the sum of u over an answer is the number of passes that this drafter alone would
have taken.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hedgespec.types import DraftTree, Method, Observation, Scores

ROOT = -1


@dataclass(slots=True)
class ShadowCursor:
    """How far a drafter's own rounds have come.

    at: output index of the next token to judge; wants_tree: a new draft starts there
    """

    at: int = -1
    wants_tree: bool = True
    _tree: DraftTree | None = None
    _node: int = ROOT
    _depth: int = 0

    def seek(self, output_index: int) -> None:
        """Go to output_index; if that is a jump, a new draft starts there."""
        if self.at != output_index:
            self.at, self.wants_tree = output_index, True

    def enter(self, tree: DraftTree) -> None:
        """Begin a round with the tree that was drafted at `at`."""
        self._tree, self._node, self._depth, self.wants_tree = tree, ROOT, 0, False

    def judge(self, token: int) -> tuple[int, bool, NDArray[np.int32]]:
        """Follow the realised token at `at`.

        Returns its depth in the draft, whether it was drafted, and all tokens that were drafted in its stead.
        A miss ends the draft, and so does the token after the last drafted one.
        """
        assert self._tree is not None
        children = np.flatnonzero(self._tree.parent == self._node)
        tokens = self._tree.token_ids[children]
        found = children[tokens == token]
        self.at += 1
        self._depth += 1
        depth = self._depth
        if len(found):
            self._node = int(found[0])
        self.wants_tree = not len(found)
        return depth, bool(len(found)), tokens


@dataclass(slots=True)
class CursorScores:
    """The scores of one observation while a cursor walks over it."""

    cursor: ShadowCursor
    observation: Observation
    method: Method
    depth: int
    acceptance: NDArray[np.float32] = field(init=False)
    acceptance_prob: NDArray[np.float32] | None = field(init=False)

    def __post_init__(self) -> None:
        shape = len(self.observation.token_ids), self.depth
        self.acceptance = np.zeros(shape, np.float32)
        self.acceptance_prob = np.zeros(shape, np.float32) if self.observation.target_top is not None else None
        self.cursor.seek(self.observation.start)

    @property
    def is_complete(self) -> bool:
        return self.cursor.at >= self.observation.start + len(self.observation.token_ids)

    @property
    def realised(self) -> list[int]:
        """Return the observation's tokens from the cursor on."""
        rest: list[int] = self.observation.token_ids[self.cursor.at - self.observation.start :].tolist()
        return rest

    @property
    def needs_whole_trees(self) -> bool:
        """Whether all of a tree counts, and not only what the realised tokens lead through."""
        return self.acceptance_prob is not None and self.method == "rejection"

    def walk(self) -> None:
        """Judge tokens until the draft or the observation ends."""
        while not self.cursor.wants_tree and not self.is_complete:
            row = self.cursor.at - self.observation.start
            depth, is_hit, drafted = self.cursor.judge(int(self.observation.token_ids[row]))
            if depth > self.depth:
                continue
            self.acceptance[row, depth - 1] = is_hit
            if self.acceptance_prob is not None:
                self.acceptance_prob[row, depth - 1] = self._prob_of(drafted, row, is_hit)

    def finished(self) -> Scores:
        return Scores(self.observation.start, self.acceptance, self.acceptance_prob)

    def _prob_of(self, drafted: NDArray[np.int32], row: int, is_hit: bool) -> float:
        """Return p(S) of the drafted tokens S, without bias: an id that was not sent counts when it was realised."""
        if self.method != "rejection" or self.observation.target_top is None:
            return float(is_hit)
        ids, probs = self.observation.target_top.row(row)
        is_sent = self.observation.token_ids[row] in ids
        return float(probs[np.isin(ids, drafted)].sum()) + float(is_hit and not is_sent)
