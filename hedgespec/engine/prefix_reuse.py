"""One session takes cached rows of its prompt from the prefix cache when it opens and adds rows while its text grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hedgespec.models.memory.kv_memory import KvSlot
from hedgespec.models.memory.prefix_cache import BLOCK_TOKENS, BlockChain, CachedBlock, PrefixCache

Features = NDArray[np.float32] | NDArray[np.uint16]


class PrefixReuse:
    """Offers every block of verified text once, when it is complete: others that begin alike use it while this one is open.

    wants_features: the session's drafters need the features of every position, so blocks without them are not taken
    """

    def __init__(self, cache: PrefixCache, salt: str, wants_features: bool) -> None:
        self._cache = cache
        self._chain = BlockChain(salt)
        self._wants_features = wants_features
        self._num_blocks = 0
        self._features: list[Features] = []

    def take(self, slot: KvSlot, ids: NDArray[np.int32], max_rows: int) -> Features | None:
        """Copy the longest cached beginning of a text, at most max_rows rows, into its empty slot.

        Returns the features of these rows, [slot.length, 3 * hidden]; None without a hit, or when no drafter wants them.
        Raises ReplicaBusy.
        """
        if not self._cache.max_tokens:
            return None
        found = self._cache.find(self._chain.keys(ids, max_rows // BLOCK_TOKENS), self._wants_features)
        self._num_blocks = len(found)
        if not found:
            return None
        slot.fill(torch.cat([block.rows for block in found], dim=2))
        if not self._wants_features:
            return None
        return _joined([block.features for block in found if block.features is not None])

    def offer(self, slot: KvSlot, ids: NDArray[np.int32], features: Features | None) -> None:
        """Put newly complete blocks into the cache.

        ids: the verified text, of which slot.length rows are in the slot
        features: [num_rows, 3 * hidden] of the rows that came since the last call
        """
        if not self._cache.max_tokens:
            return
        if features is not None:
            self._features.append(features)
        first, end = self._num_blocks, slot.length // BLOCK_TOKENS
        if end <= first:
            return
        rows = _joined(self._features)

        def make(index: int) -> CachedBlock | None:
            copied = slot.copied(index * BLOCK_TOKENS, BLOCK_TOKENS)
            start = (index - first) * BLOCK_TOKENS
            # a copy: a block that is a view would keep the rows of its whole pass alive
            own: Features | None = None if rows is None else rows[start : start + BLOCK_TOKENS].copy()
            return None if copied is None else CachedBlock(copied, own)

        try:
            self._cache.add(self._chain.keys(ids, end), first, rows is not None, make)
        except torch.OutOfMemoryError:
            self._cache.clear()  # no session may run out of memory because of what the cache keeps
        self._num_blocks = end
        if rows is not None:
            self._features = [rows[(end - first) * BLOCK_TOKENS :].copy()]


def _joined(parts: Sequence[NDArray[Any]]) -> Features | None:
    rows: Features | None = np.concatenate(parts) if parts else None
    return rows
