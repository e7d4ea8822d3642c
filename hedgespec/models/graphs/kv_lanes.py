"""KV lanes are KV memory at addresses that never change, as a captured graph needs.

A session's rows are moved into a lane once and written there from then on. Its slot's tensors become views of the lane, so
that packed passes work as before. A text that outgrows its lane leaves it and is decoded without graphs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from hedgespec.models.memory.kv_memory import KvSlot

Layers = Mapping[int, tuple[Tensor, Tensor]]


class KvLanes:
    """num_lanes lanes of `capacity` rows each, and the lane `scratch` for padding, whose rows mean nothing.

    layers: per layer keys and values, [num_lanes + 1, num_kv_heads, capacity, head_dim]
    """

    def __init__(self, num_lanes: int, capacity: int, like: Layers) -> None:
        """Allocate. like: the layers of any slot of the model, for their shapes. Lanes start as zeros: rows that are masked
        are multiplied by 0 and must be finite."""
        self.num_lanes = self.scratch = num_lanes
        self.capacity = capacity
        self.layers = {layer: (self._zeros(keys), self._zeros(values)) for layer, (keys, values) in like.items()}
        self._free = list(range(num_lanes))
        self._lane_of: dict[KvSlot, int] = {}

    @property
    def num_free(self) -> int:
        return len(self._free)

    @torch.inference_mode()
    def lane_of(self, slot: KvSlot, num_rows: int) -> int | None:
        """Return the lane of a slot that is about to hold num_rows rows, after moving it there if need be.

        Returns None when they do not fit or every lane is taken.
        """
        if num_rows > self.capacity or slot.layers.keys() != self.layers.keys():
            return None
        if slot not in self._lane_of:
            if not self._free:
                return None
            self._move(slot, self._free.pop())
        return self._lane_of[slot]

    def _move(self, slot: KvSlot, lane: int) -> None:
        for layer, stored in list(slot.layers.items()):
            keys, values = (tensor[lane : lane + 1] for tensor in self.layers[layer])
            for own, old in zip((keys, values), stored, strict=True):
                own.narrow(2, 0, slot.length).copy_(old.narrow(2, 0, slot.length))
            slot.layers[layer] = keys, values
        slot.capacity = self.capacity
        slot.on_move = partial(self._leave, slot)
        self._lane_of[slot] = lane

    def _leave(self, slot: KvSlot) -> None:
        self._free.append(self._lane_of.pop(slot))

    def _zeros(self, like: Tensor) -> Tensor:
        _, num_heads, _, head_dim = like.shape
        shape = self.num_lanes + 1, num_heads, self.capacity, head_dim
        return torch.zeros(shape, dtype=like.dtype, device=like.device)
