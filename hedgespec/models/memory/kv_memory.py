"""KV memory: one contiguous, growing slot per session; a number of tokens bounds all sessions together.

Rows are written in place, so a verify pass copies only its own few rows. Rejected draft rows are dropped by moving
`length` back: rows past it are overwritten, never read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hedgespec.errors import ReplicaBusy

CAPACITY_STEP = 64
"""Slots hold a multiple of this many rows, so that attention may read whole groups of keys, see `exact_attention`."""

GROWTH = 1.5


class KvMemory:
    """The token budget of one model: max_tokens bounds the sum of all slots' reservations."""

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self._slots: set[KvSlot] = set()
        self._evict: Callable[[int], None] | None = None

    @property
    def num_reserved_tokens(self) -> int:
        return sum(slot.num_reserved for slot in self._slots)

    @property
    def num_unreserved_tokens(self) -> int:
        return self.max_tokens - self.num_reserved_tokens

    @property
    def num_cached_tokens(self) -> int:
        return sum(slot.length for slot in self._slots)

    def open(self, num_tokens: int) -> KvSlot:
        """Reserve a slot for num_tokens, so that a session cannot run out of memory half-way. Raises ReplicaBusy."""
        slot = KvSlot(self)
        self.extend(slot, num_tokens)
        self._slots.add(slot)
        return slot

    def extend(self, slot: KvSlot, num_tokens: int) -> None:
        """Raise a slot's reservation to num_tokens. Raises ReplicaBusy and then changes nothing."""
        others = self.num_reserved_tokens - (slot.num_reserved if slot in self._slots else 0)
        if others + num_tokens > self.max_tokens:
            raise ReplicaBusy(
                f"No KV memory for {num_tokens} tokens: {others} of {self.max_tokens} are reserved by other sessions. "
                "Try another replica, or raise max_cached_tokens."
            )
        slot.num_reserved = num_tokens
        if self._evict is not None:
            self._evict(self.max_tokens - others - num_tokens)

    def share_unreserved(self, evict: Callable[[int], None]) -> None:
        """Let a cache use unreserved rows; they are evicted on demand.

        evict: called with the number of tokens still unreserved whenever a slot reserves more; keeps no more than those
        """
        self._evict = evict

    def free(self, slot: KvSlot) -> None:
        """Release the slot's tensors and its reservation; freeing twice is fine."""
        self._slots.discard(slot)
        slot.call_on_move()
        slot.length = slot.capacity = slot.num_reserved = 0
        slot.layers.clear()


class KvSlot:
    """Keys and values of one session: per layer two tensors [1, num_kv_heads, capacity, head_dim].

    length:  rows that hold verified tokens (or the part of them that was computed so far)
    capacity: rows there is memory for. Those that were never written are zeros: attention reads a group of keys in full
    on_move: called once when the rows move to other tensors or are freed; for an owner of the tensors other than the slot
    """

    __slots__ = ("_memory", "capacity", "layers", "length", "num_reserved", "on_move")

    def __init__(self, memory: KvMemory) -> None:
        self.length = 0
        self.capacity = 0
        self.num_reserved = 0
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}
        self.on_move: Callable[[], None] | None = None
        self._memory = memory

    def require(self, num_rows: int) -> None:
        """Make room for num_rows rows in total, keeping the first `length`. Raises ReplicaBusy."""
        if num_rows > self.num_reserved:
            self._memory.extend(self, num_rows)
        if num_rows <= self.capacity:
            return
        wanted = max(num_rows, min(int(self.capacity * GROWTH), self.num_reserved))
        self.capacity = -(-wanted // CAPACITY_STEP) * CAPACITY_STEP
        for layer, (keys, values) in self.layers.items():
            self.layers[layer] = self._enlarged(keys), self._enlarged(values)
        self.call_on_move()

    def call_on_move(self) -> None:
        """Call on_move and forget it."""
        on_move, self.on_move = self.on_move, None
        if on_move is not None:
            on_move()

    def stored(
        self, layer: int, num_kv_heads: int, head_dim: int, dtype: torch.dtype, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Return a layer's keys and values, allocated at its first use."""
        if layer not in self.layers:
            shape = 1, num_kv_heads, self.capacity, head_dim
            keys, values = (torch.zeros(shape, dtype=dtype, device=device) for _ in range(2))
            self.layers[layer] = keys, values
        return self.layers[layer]

    def write(self, layer: int, key: Tensor, value: Tensor, start: int) -> None:
        """Write rows start, start + 1, ... of a layer. key, value: [1, num_kv_heads, num_rows, head_dim]"""
        _, num_heads, num_rows, head_dim = key.shape
        for stored, rows in zip(
            self.stored(layer, num_heads, head_dim, key.dtype, key.device), (key, value), strict=True
        ):
            stored.narrow(2, start, num_rows).copy_(rows)

    @torch.inference_mode()
    def keep(self, base: int, rows: Sequence[int]) -> None:
        """Keep the first `base` rows and then the given ones, in that order; `length` becomes base + len(rows).

        rows: rising row indices >= base, the accepted path of a draft. A path without gaps moves nothing.
        """
        if any(row != base + i for i, row in enumerate(rows)):
            index = list(rows)
            for keys, values in self.layers.values():
                for stored in (keys, values):
                    stored[:, :, base : base + len(index)] = stored[:, :, index]
        self.length = base + len(rows)

    @torch.inference_mode()
    def copied(self, start: int, num_rows: int) -> Tensor | None:
        """Copy some rows of all layers, [2 * num_layers, num_kv_heads, num_rows, head_dim], keys before values.

        Returns None for a model whose layers differ in shape and so cannot be stacked.
        """
        stored = [tensor for layer in sorted(self.layers) for tensor in self.layers[layer]]
        is_uniform = len({(tensor.shape, tensor.dtype) for tensor in stored}) == 1
        if not is_uniform or sorted(self.layers) != list(range(len(self.layers))):
            return None
        return torch.stack([tensor[0, :, start : start + num_rows] for tensor in stored])

    @torch.inference_mode()
    def fill(self, rows: Tensor) -> None:
        """Fill an empty slot with rows that `copied` returned. Raises ReplicaBusy."""
        self.require(rows.shape[2])
        for layer, (key, value) in enumerate(zip(rows[0::2], rows[1::2], strict=True)):
            self.write(layer, key.unsqueeze(0), value.unsqueeze(0), 0)
        self.length = rows.shape[2]

    def _enlarged(self, stored: Tensor) -> Tensor:
        _, num_heads, _, head_dim = stored.shape
        larger = stored.new_zeros((1, num_heads, self.capacity, head_dim))
        larger.narrow(2, 0, self.length).copy_(stored.narrow(2, 0, self.length))
        return larger
