"""What a pass through a language model is asked for, per session, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.models.graphs.buckets import BLOCKS
from hedgespec.models.memory.kv_memory import KvSlot


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive new tokens of one session.

    parent:       [num_rows] for a draft tree, see `attention.Rows`; None is a chain
    logits_from:  rows from this one on get logits; len(token_ids) is none
    """

    slot: KvSlot
    token_ids: NDArray[np.int32]
    parent: NDArray[np.int32] | None = None
    logits_from: int = 0
    wants_features: bool = False

    @property
    def num_rows(self) -> int:
        return len(self.token_ids)

    @property
    def is_short_chain(self) -> bool:
        """What a static pass can take."""
        return self.parent is None and self.logits_from == 0 and self.num_rows <= BLOCKS[-1]


@dataclass(frozen=True, slots=True)
class BlockOutput:
    """logits: [num_rows - logits_from, vocab]; features: [num_rows, 3 * hidden] or None. Both in the model's type."""

    logits: Tensor
    features: Tensor | None
