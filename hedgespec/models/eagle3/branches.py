"""Branches of a head: drafts that start at one or at different places of the same text, one token each per step.

It is the pattern of EAGLE-3's training-time test: every branch sees the text's true rows up to its own start, plus its
own earlier steps (one row per step). Rows are kept once; who sees which of them is a mask, so that a branch that parts
takes a row of the mask along and makes trees of branches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hedgespec.models.memory.kv_memory import KvSlot


class BranchedAttention:
    """num_base_rows: per branch, how many rows of layer 0 of the slot it may see."""

    def __init__(self, slot: KvSlot, num_base_rows: Sequence[int], scale: float) -> None:
        self._slot = slot
        self._scale = scale
        self._num_base_rows = list(num_base_rows)
        self._base_mask: Tensor | None = None  # both [num_branches, num_rows], 0 where a branch sees a row, else -inf
        self._own_mask: Tensor | None = None
        self._keys: Tensor | None = None  # own rows of all branches: [num_kv_heads, num_own_rows, head_dim]
        self._values: Tensor | None = None

    def keep(self, branches: Sequence[int]) -> None:
        """Go on with these branches, given as indices of the current ones, each as often as it is named."""
        self._num_base_rows = [self._num_base_rows[branch] for branch in branches]
        if self._base_mask is not None and self._own_mask is not None:
            index = torch.tensor(branches, device=self._base_mask.device)
            self._base_mask, self._own_mask = self._base_mask[index], self._own_mask[index]

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Take the next step of every branch. Returns [num_branches, num_heads * head_dim].

        query: [num_branches, num_heads, head_dim]; key, value: [num_branches, num_kv_heads, head_dim]
        """
        num_branches, num_kv_heads, head_dim = key.shape
        keys, values = self._with_own(key.transpose(0, 1), value.transpose(0, 1))
        base_mask, own_mask = self._masks(query)
        num_base = base_mask.shape[1]
        base_keys, base_values = (stored[0, :, :num_base] for stored in self._slot.layers[0])
        num_groups = query.shape[1] // num_kv_heads
        grouped = query.view(num_branches, num_kv_heads, num_groups, head_dim).transpose(0, 1).flatten(1, 2)
        if num_groups > 1:
            base_mask, own_mask = (mask.repeat_interleave(num_groups, dim=0) for mask in (base_mask, own_mask))
        base = torch.baddbmm(base_mask, grouped, base_keys.mT, alpha=self._scale)
        own = torch.baddbmm(own_mask, grouped, keys.mT, alpha=self._scale)
        weights = torch.cat((base, own), dim=-1).softmax(dim=-1, dtype=torch.float32).to(query.dtype)
        output = weights[..., :num_base].bmm(base_values).baddbmm_(weights[..., num_base:], values)
        by_branch = output.view(num_kv_heads, num_branches, num_groups, head_dim).transpose(0, 1)
        return by_branch.reshape(num_branches, -1)

    def _with_own(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        keys = key if self._keys is None else torch.cat((self._keys, key), dim=1)
        values = value if self._values is None else torch.cat((self._values, value), dim=1)
        self._keys, self._values = keys, values
        return keys, values

    def _masks(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Every branch sees its new row too, and nobody else does."""
        num_branches = len(like)
        newest = like.new_full((num_branches, num_branches), -torch.inf).fill_diagonal_(0.0)
        if self._base_mask is None or self._own_mask is None:
            limit = torch.tensor(self._num_base_rows, device=like.device)[:, None]
            hidden = torch.arange(max(self._num_base_rows), device=like.device) >= limit
            self._base_mask = like.new_zeros(hidden.shape).masked_fill_(hidden, -torch.inf)
            self._own_mask = newest
        else:
            self._own_mask = torch.cat((self._own_mask, newest), dim=1)
        return self._base_mask, self._own_mask


class HeadBranches:
    """states: [num_branches, hidden] after the newest pair of every branch; positions: of those pairs; place: of the head
    in its bank."""

    def __init__(self, attention: BranchedAttention, states: Tensor, positions: Sequence[int], place: int) -> None:
        self.attention = attention
        self.place = place
        self.states = states
        self.positions = list(positions)

    def __len__(self) -> int:
        return len(self.positions)

    def keep(self, branches: Sequence[int]) -> None:
        """As in `BranchedAttention.keep`; naming all of them in order costs nothing."""
        if list(branches) == list(range(len(self))):
            return
        self.attention.keep(branches)
        self.states = self.states[torch.tensor(branches, device=self.states.device)]
        self.positions = [self.positions[branch] for branch in branches]
