"""Stub."""

from __future__ import annotations

import numpy as np

from hedgespec.types import DraftTree


def merge(drafts: list[tuple[int, DraftTree]], budget: int) -> DraftTree:
    tokens: list[int] = []
    parents: list[int] = []
    owners: list[int] = []
    children: dict[tuple[int, int], int] = {}
    for index, tree in drafts:
        place: list[int] = []
        for token, parent in zip(tree.token_ids.tolist(), tree.parent.tolist(), strict=True):
            above = -1 if parent < 0 else place[parent]
            node = children.setdefault((above, token), len(tokens))
            if node == len(tokens):
                tokens.append(token)
                parents.append(above)
                owners.append(index)
            place.append(node)
    return DraftTree(np.array(tokens, np.int32), np.array(parents, np.int32), drafter_index=np.array(owners, np.int16))
