"""The prefix cache: KV rows and features of text that was computed before, for sessions that begin alike.

Text is cut into blocks of BLOCK_TOKENS ids. A block's key is a SHA-256 over the key before it and its ids, and the first
one's over the tenant's salt: equal keys mean equal text from position 0 on and the same tenant, so that nobody learns
from a hit (or from its speed) what another tenant has sent.

Rows are copied into a session's own contiguous slot and out of it, never shared: giving a block up cannot touch a live
session. They are the rows that some earlier pass computed, whose chunks and neighbours differed from those of the pass
that is saved; so laws can differ by float rounding, exactly as with other prefill chunks, and not beyond it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.models.memory.kv_memory import KvMemory

BLOCK_TOKENS = 32


@dataclass(frozen=True, slots=True)
class CachedBlock:
    """rows: [2 * num_layers, num_kv_heads, BLOCK_TOKENS, head_dim], see `KvSlot.copied`
    features: [BLOCK_TOKENS, 3 * hidden] as `FeatureBlock.rows`; None where nobody asked for them
    """

    rows: Tensor
    features: NDArray[np.float32] | NDArray[np.uint16] | None


class PrefixCache:
    """Blocks by key, the least recently used ones given up first.

    max_tokens: how much is kept at most; 0 is off. Blocks live in what no session has reserved of `memory` and make room
    as soon as one does: a session is never refused because of the cache.

    Whoever uses a block uses all blocks before it, and they count as used after it: the least recent block is always the
    end of its chain, so that no block outlives one before it, without which it could not be found.
    """

    def __init__(self, memory: KvMemory, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self._memory = memory
        self._blocks: OrderedDict[bytes, CachedBlock] = OrderedDict()
        memory.lend(self._shrink)

    @property
    def num_tokens(self) -> int:
        return len(self._blocks) * BLOCK_TOKENS

    def find(self, keys: Sequence[bytes], needs_features: bool) -> list[CachedBlock]:
        """The longest run of known blocks from the first key on; with needs_features, of those that have them."""
        found = []
        for key in keys:
            block = self._blocks.get(key)
            if block is None or (needs_features and block.features is None):
                break
            found.append(block)
        self._use(keys[: len(found)])
        return found

    def add(
        self, keys: Sequence[bytes], first: int, has_features: bool, make: Callable[[int], CachedBlock | None]
    ) -> None:
        """Keep the blocks first, first + 1, ... of a chain, as far as there is room beside the blocks before them.

        keys: of the whole chain. make(index) copies a block and is called for those that are not known yet, or known
        without the features that has_features promises; None ends the adding.
        """
        if first and keys[first - 1] not in self._blocks:
            return  # given up in the meantime
        self._use(keys)
        for index in range(first, len(keys)):
            known = self._blocks.get(keys[index])
            if known is not None and (known.features is not None or not has_features):
                continue
            if known is None and not self._make_room(num_kept=index):
                break
            block = make(index)
            if block is None:
                break
            self._blocks[keys[index]] = block
        self._use(keys)

    def clear(self) -> None:
        self._blocks.clear()

    def _make_room(self, num_kept: int) -> bool:
        """Room for one more block. num_kept: so many of the most recent ones stay."""
        limit = min(self.max_tokens, self._memory.num_unreserved_tokens)
        while self.num_tokens + BLOCK_TOKENS > limit:
            if len(self._blocks) <= num_kept:
                return False
            self._blocks.popitem(last=False)
        return True

    def _shrink(self, num_unreserved_tokens: int) -> None:
        while self.num_tokens > num_unreserved_tokens:
            self._blocks.popitem(last=False)

    def _use(self, keys: Sequence[bytes]) -> None:
        for key in reversed(keys):
            if key in self._blocks:
                self._blocks.move_to_end(key)


class BlockChain:
    """The keys of one growing text. salt: the tenant."""

    def __init__(self, salt: str) -> None:
        self._keys: list[bytes] = []
        # roots and blocks are hashed under different first bytes: no salt can be made to look like a block
        self._last = hashlib.sha256(b"\x00" + salt.encode()).digest()

    def keys(self, ids: NDArray[np.int32], num_blocks: int) -> list[bytes]:
        """Of the text's first num_blocks blocks. ids: [num_tokens >= num_blocks * BLOCK_TOKENS], always the same text."""
        for index in range(len(self._keys), num_blocks):
            block = ids[index * BLOCK_TOKENS : (index + 1) * BLOCK_TOKENS].astype("<i4")
            self._last = hashlib.sha256(b"\x01" + self._last + block.tobytes()).digest()
            self._keys.append(self._last)
        return self._keys[:num_blocks]
