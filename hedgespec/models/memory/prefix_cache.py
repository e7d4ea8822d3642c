"""The prefix cache keeps KV rows and features of computed text for later sessions that begin with the same text.

Text is cut into blocks of BLOCK_TOKENS ids. A block's key is a SHA-256 over the previous block's key and its own ids; the
chain starts from the tenant's salt. Equal keys therefore mean equal text from position 0 on and the same tenant: neither
a hit nor its speed tells a tenant what another one has sent.

Rows are copied into and out of a session's own slot, never shared, so evicting a block cannot touch a live session. The
pass that computed them had other chunks and other sessions beside it than the pass that is saved; distributions differ by
float rounding, as they do between prefill chunks of different sizes, and by no more.
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
    """The KV rows of one block of text, and its features.

    rows:     [2 * num_layers, num_kv_heads, BLOCK_TOKENS, head_dim], see `KvSlot.copied`
    features: [BLOCK_TOKENS, 3 * hidden] as `FeatureBlock.rows`; None where the session had no use for them
    """

    rows: Tensor
    features: NDArray[np.float32] | NDArray[np.uint16] | None


class PrefixCache:
    """Blocks by key; the least recently used one is evicted first.

    max_tokens: most tokens to keep; 0 is off. Blocks occupy what no session has reserved of `memory` and are evicted as
    soon as one reserves it: the cache never causes a session to be refused.

    Using a block uses all blocks before it, and those count as used later than it. The least recent block is thus always
    the end of its chain: no block outlives an earlier one, without which it could not be found.
    """

    def __init__(self, memory: KvMemory, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self._memory = memory
        self._blocks: OrderedDict[bytes, CachedBlock] = OrderedDict()
        memory.share_unreserved(self._shrink)

    @property
    def num_tokens(self) -> int:
        return len(self._blocks) * BLOCK_TOKENS

    def find(self, keys: Sequence[bytes], needs_features: bool) -> list[CachedBlock]:
        """Return the longest run of cached blocks from the first key on; with needs_features, of blocks that have them."""
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
        """Keep the blocks first, first + 1, ... of a chain, as far as there is room besides the blocks before them.

        keys: the whole chain's. make(index): copies a block; called for blocks that are not cached, or cached without the
        features that has_features promises; None ends the adding
        """
        if first and keys[first - 1] not in self._blocks:
            return  # evicted in the meantime
        self._use(keys)
        for index in range(first, len(keys)):
            cached = self._blocks.get(keys[index])
            if cached is not None and (cached.features is not None or not has_features):
                continue
            if cached is None and not self._make_room(num_kept=index):
                break
            block = make(index)
            if block is None:
                break
            self._blocks[keys[index]] = block
        self._use(keys)

    def clear(self) -> None:
        self._blocks.clear()

    def _make_room(self, num_kept: int) -> bool:
        """Evict until one more block fits; False if that needs one of the num_kept most recent ones."""
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
    """The block keys of one growing text. salt: the tenant."""

    def __init__(self, salt: str) -> None:
        self._keys: list[bytes] = []
        # roots and blocks are hashed with different first bytes: no salt can pass for a block
        self._last = hashlib.sha256(b"\x00" + salt.encode()).digest()

    def keys(self, ids: NDArray[np.int32], num_blocks: int) -> list[bytes]:
        """Return the keys of the first num_blocks blocks. ids: [num_tokens >= num_blocks * BLOCK_TOKENS], the same text in
        every call."""
        for index in range(len(self._keys), num_blocks):
            block = ids[index * BLOCK_TOKENS : (index + 1) * BLOCK_TOKENS].astype("<i4")
            self._last = hashlib.sha256(b"\x01" + self._last + block.tobytes()).digest()
            self._keys.append(self._last)
        return self._keys[:num_blocks]
