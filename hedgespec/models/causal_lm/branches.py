"""A tree that a language model drafts behind a place of a session's text: each level runs with its ancestors again.

Within one block the packed model knows who follows whom; rows of earlier blocks are the text of everybody. A tree has few
rows, and a pass costs about the same with a few more.
"""

from __future__ import annotations

import numpy as np

from hedgespec.models.causal_lm.block import Block
from hedgespec.models.drafting.session_text import SessionText
from hedgespec.models.memory.kv_memory import KvSlot


class LmBranches:
    """start: position of the first drafted token. Every block leaves the slot with the text's rows before `start`."""

    def __init__(self, text: SessionText, slot: KvSlot, start: int) -> None:
        self.slot = slot
        self.start = start
        self._text = text
        self._tokens: list[int] = []
        self._parents: list[int] = []
        self._newest: list[int] = []

    def block(self, parent_rows: list[int], tokens: list[int]) -> Block:
        """The rows that give logits after each of `tokens`, which follow the given rows of the block before."""
        parents = [self._newest[row] if self._newest else -1 for row in parent_rows]
        kept = self._with_ancestors(parents)
        place = {-1: -1} | {node: index for index, node in enumerate(kept)}
        self._parents = [*(place[self._parents[node]] for node in kept), *(place[node] for node in parents)]
        self._tokens = [*(self._tokens[node] for node in kept), *tokens]
        self._newest = list(range(len(kept), len(self._tokens)))
        # an earlier tree may have been written over the last rows of the text
        self.slot.length = min(self.slot.length, self.start)
        again = self._text.ids[self.slot.length : self.start].copy()
        token_ids = np.concatenate([again, np.array(self._tokens, np.int32)])
        parent = np.concatenate([np.arange(-1, len(again) - 1), np.array(self._parents) + len(again)]).astype(np.int32)
        return Block(self.slot, token_ids, parent, logits_from=len(again) + len(kept))

    def _with_ancestors(self, nodes: list[int]) -> list[int]:
        kept: set[int] = set()
        for start in nodes:
            node = start
            while node != -1 and node not in kept:
                kept.add(node)
                node = self._parents[node]
        return sorted(kept)
