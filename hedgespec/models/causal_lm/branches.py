"""A tree that a causal LM drafts after a position of a session's text: each level is run together with its ancestors.

A packed pass knows parents only within a block; it takes the rows of earlier blocks for text that all rows follow. Running
the ancestors again costs little: a tree has few rows, and a pass takes about as long with a few more.
"""

from __future__ import annotations

import numpy as np

from hedgespec.models.causal_lm.block import Block
from hedgespec.models.memory.kv_memory import KvSlot
from hedgespec.models.session_text import SessionText


class LmBranches:
    """The drafted nodes of one tree.

    start: position of the first drafted token; the slot holds rows of the text before it
    """

    def __init__(self, text: SessionText, slot: KvSlot, start: int) -> None:
        self.slot = slot
        self.start = start
        self._text = text
        self._tokens: list[int] = []
        self._parents: list[int] = []
        self._newest: list[int] = []

    def block(self, parent_rows: list[int], tokens: list[int]) -> Block:
        """Add `tokens` as children of these rows of the previous block; return the block that gives logits after them."""
        parents = [self._newest[row] if self._newest else -1 for row in parent_rows]
        kept = self._with_ancestors(parents)
        index = {-1: -1} | {node: new for new, node in enumerate(kept)}
        self._parents = [*(index[self._parents[node]] for node in kept), *(index[node] for node in parents)]
        self._tokens = [*(self._tokens[node] for node in kept), *tokens]
        self._newest = list(range(len(kept), len(self._tokens)))
        # an earlier tree may have overwritten the last rows of the text
        self.slot.length = min(self.slot.length, self.start)
        again = self._text.ids[self.slot.length : self.start].copy()
        token_ids = np.concatenate([again, np.array(self._tokens, np.int32)])
        parent = np.concatenate([np.arange(-1, len(again) - 1), np.array(self._parents) + len(again)]).astype(np.int32)
        return Block(self.slot, token_ids, parent, logits_from=len(again) + len(kept))

    def _with_ancestors(self, nodes: list[int]) -> list[int]:
        kept: set[int] = set()
        for node in nodes:
            while node != -1 and node not in kept:
                kept.add(node)
                node = self._parents[node]
        return sorted(kept)
