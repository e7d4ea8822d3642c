"""Branches of a head: drafts that start at one or at different places of the same text, one token each per step.

It is the pattern of EAGLE-3's training-time test: every branch sees the text's true rows up to its own start, plus its
own earlier steps (one row per step). A branch that parts takes copies of those along, which makes trees of branches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hedgespec.models.kv_memory import KvSlot


class BranchedAttention:
    """num_base_rows: per branch, how many rows of layer 0 of the slot it may see."""

    def __init__(self, slot: KvSlot, num_base_rows: Sequence[int], scale: float) -> None:
        self._slot = slot
        self._num_base_rows = list(num_base_rows)
        self._scale = scale
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []

    def keep(self, branches: Sequence[int]) -> None:
        """Go on with these branches, given as indices of the current ones, each as often as it is named."""
        index = list(branches)
        self._num_base_rows = [self._num_base_rows[branch] for branch in index]
        self._keys = [keys[index] for keys in self._keys]
        self._values = [values[index] for values in self._values]

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Take the next step of every branch. Returns [num_branches, num_heads * head_dim].

        query: [num_branches, num_heads, head_dim]; key, value: [num_branches, num_kv_heads, head_dim]
        """
        self._keys.append(key)
        self._values.append(value)
        num_branches, num_kv_heads, head_dim = key.shape
        grouped = query.view(num_branches, num_kv_heads, -1, head_dim) * self._scale
        num_rows = max(self._num_base_rows)
        base_keys, base_values = (stored[0, :, :num_rows] for stored in self._slot.layers[0])
        own_keys, own_values = torch.stack(self._keys, dim=2), torch.stack(self._values, dim=2)
        base_scores = torch.einsum("bkgd,krd->bkgr", grouped, base_keys)
        row = torch.arange(num_rows, device=query.device)
        limit = torch.tensor(self._num_base_rows, device=query.device)
        base_scores = base_scores.masked_fill((row >= limit[:, None])[:, None, None], -torch.inf)
        own_scores = torch.einsum("bkgd,bksd->bkgs", grouped, own_keys)
        weights = torch.cat([base_scores, own_scores], dim=-1).float().softmax(dim=-1).to(query.dtype)
        output = torch.einsum("bkgr,krd->bkgd", weights[..., :num_rows], base_values)
        output = output + torch.einsum("bkgs,bksd->bkgd", weights[..., num_rows:], own_values)
        return output.reshape(num_branches, -1)


class HeadBranches:
    """states: [num_branches, hidden] after the newest pair of every branch; positions: of those pairs."""

    def __init__(self, attention: BranchedAttention, states: Tensor, positions: Sequence[int]) -> None:
        self.attention = attention
        self.states = states
        self.positions = list(positions)

    def __len__(self) -> int:
        return len(self.positions)

    def keep(self, branches: Sequence[int]) -> None:
        """As in `BranchedAttention.keep`."""
        index = list(branches)
        self.attention.keep(index)
        self.states = self.states[index]
        self.positions = [self.positions[branch] for branch in index]
