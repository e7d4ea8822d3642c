"""Head branches are the state of several drafts that grow from one text, kept between two steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hedgespec.models.eagle3.head_attention import Branches, OwnRows
from hedgespec.models.memory.kv_memory import KvSlot


class HeadBranches:
    """Drafts that start at one or at different positions of the same text.

    states:        [num_branches, hidden] after the newest pair of every branch
    positions:     of those pairs
    num_base_rows: how many rows of the slot each branch may see
    head_index:    of the head in its bank
    """

    def __init__(
        self, slot: KvSlot, num_base_rows: Sequence[int], states: Tensor, positions: Sequence[int], head_index: int
    ) -> None:
        self.head_index = head_index
        self.states = states
        self.positions = list(positions)
        self.own: OwnRows | None = None
        self._slot = slot
        self._num_base_rows = list(num_base_rows)

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def plan(self) -> Branches:
        """Return what the next step attends to."""
        return Branches(*self._slot.layers[0], self._num_base_rows, self.own)

    def keep(self, branches: Sequence[int]) -> None:
        """Go on with these branches, given as indices of the current ones, each as often as it is named; naming all of them
        in order costs nothing."""
        if list(branches) == list(range(len(self))):
            return
        index = torch.tensor(branches, device=self.states.device)
        self.states = self.states[index]
        self.positions = [self.positions[branch] for branch in branches]
        self._num_base_rows = [self._num_base_rows[branch] for branch in branches]
        if self.own is not None:
            keys, values, base_mask, own_mask = self.own
            self.own = keys, values, base_mask[index], own_mask[index]
