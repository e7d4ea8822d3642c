"""The input and the output of a pass through a causal LM, per session."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.models.memory.kv_memory import KvSlot


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive new tokens of one session, which follow the first `slot.length` rows of its slot.

    token_ids:   [num_rows]
    parent:      [num_rows] for a draft tree, see `attention.Rows`; None is a chain
    logits_from: the first row that gets logits; num_rows for none
    """

    slot: KvSlot
    token_ids: NDArray[np.int32]
    parent: NDArray[np.int32] | None = None
    logits_from: int = 0
    wants_features: bool = False

    @property
    def num_rows(self) -> int:
        return len(self.token_ids)


@dataclass(frozen=True, slots=True)
class BlockOutput:
    """The logits and features of one block, in the model's dtype.

    logits:   [num_rows - logits_from, vocab]
    features: [num_rows, 3 * hidden], None where the block wants none
    """

    logits: Tensor
    features: Tensor | None
