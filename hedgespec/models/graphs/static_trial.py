"""Static passes are compared with packed ones before they serve: a graph that computes something else is not lossless."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from hedgespec.errors import ReplicaLost
from hedgespec.models.causal_lm.block import Block, BlockOutput
from hedgespec.models.graphs.buckets import BLOCKS
from hedgespec.models.graphs.static_passes import StaticPasses
from hedgespec.models.memory.kv_memory import KvMemory

TEXT_ROWS, BLOCK_ROWS = 7, (1, 6)
"""Rows before, and in, the blocks that are compared."""

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.02}
"""Of the largest logit: another order of summation is no more than that."""

Packed = Callable[[Sequence[Block]], list[BlockOutput]]
"""A packed pass, which leaves `slot.length` as it is."""


def check_static_passes(passes: StaticPasses, packed: Packed, vocab_size: int, dtype: torch.dtype) -> None:
    """Raises ReplicaLost when the same rows behind the same text get other logits."""
    for num_rows in BLOCK_ROWS:
        memory = KvMemory(2 * (TEXT_ROWS + BLOCKS[-1]))
        slots = [memory.open(TEXT_ROWS + BLOCKS[-1]) for _ in range(2)]
        ids = np.arange(TEXT_ROWS + num_rows, dtype=np.int32) % vocab_size
        for slot in slots:
            slot.require(TEXT_ROWS + num_rows)
            packed([Block(slot, ids[:TEXT_ROWS])])
            slot.length = TEXT_ROWS
        expected = packed([Block(slots[0], ids[TEXT_ROWS:])])[0].logits
        for found in passes.decode([Block(slots[1], ids[TEXT_ROWS:])]).values():
            difference, largest = (float(t.abs().max()) for t in (found.logits - expected, expected))
            if not difference <= TOLERANCE[dtype] * largest:
                raise ReplicaLost(
                    f"Static passes of {num_rows} rows give logits that differ by {difference:.3g} of {largest:.3g}."
                )
        for slot in slots:
            memory.free(slot)
