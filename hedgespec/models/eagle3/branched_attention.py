"""Attention of branches: drafts that start at one or at different places of the same text, one token each per step.

It is the pattern of EAGLE-3's training-time test: every branch sees the text's true rows up to its own start, plus its
own earlier steps (one row per step). Rows are kept once; who sees which of them is a mask, so that a branch that parts
takes a row of the mask along and makes trees of branches.

Functions of plain tuples, so that `scripting` can compile them; annotations must be types here, no strings.
"""

from typing import NamedTuple

import torch
from torch import Tensor

OwnRows = tuple[Tensor, Tensor, Tensor, Tensor]
"""What branches have computed so far. Keys and values of their own rows, [num_kv_heads, num_own_rows, head_dim]; masks, 0
where a branch sees a row, else -inf: of the base [num_branches, num_base_rows], of own rows [num_branches, num_own_rows]."""


class Branches(NamedTuple):
    """The branches of one text. They write nothing into its slot.

    base_keys, base_values: the slot's rows, [1, num_kv_heads, capacity, head_dim]
    num_base_rows: per branch, how many of them it may see
    own: None before the first step
    """

    base_keys: Tensor
    base_values: Tensor
    num_base_rows: list[int]
    own: OwnRows | None


def attend_branches(
    branches: Branches, query: Tensor, key: Tensor, value: Tensor, scale: float
) -> tuple[Tensor, OwnRows]:
    """Take the next step of every branch. Returns [num_branches, num_heads * head_dim] and the own rows after it.

    query: [num_branches, num_heads, head_dim]; key, value: [num_branches, num_kv_heads, head_dim]
    """
    num_branches, num_kv_heads, head_dim = key.shape[0], key.shape[1], key.shape[2]
    keys, values = key.transpose(0, 1), value.transpose(0, 1)
    # every branch sees its new row too, and nobody else does
    newest = torch.full([num_branches, num_branches], -torch.inf, dtype=query.dtype, device=query.device)
    own_mask = newest.fill_diagonal_(0.0)
    before = branches.own
    if before is None:
        limit = torch.tensor(branches.num_base_rows, device=query.device).unsqueeze(1)
        hidden = torch.arange(max(branches.num_base_rows), device=query.device) >= limit
        base_mask = torch.zeros(hidden.shape, dtype=query.dtype, device=query.device)
        base_mask = base_mask.masked_fill_(hidden, -torch.inf)
    else:
        keys, values = torch.cat((before[0], keys), dim=1), torch.cat((before[1], values), dim=1)
        base_mask = before[2]
        own_mask = torch.cat((before[3], own_mask), dim=1)
    num_base, num_groups = base_mask.shape[1], query.shape[1] // num_kv_heads
    base_keys, base_values = (
        branches.base_keys[0].narrow(1, 0, num_base),
        branches.base_values[0].narrow(1, 0, num_base),
    )
    grouped = query.view(num_branches, num_kv_heads, num_groups, head_dim).transpose(0, 1).flatten(1, 2)
    wide_base, wide_own = base_mask, own_mask
    if num_groups > 1:
        wide_base, wide_own = base_mask.repeat_interleave(num_groups, 0), own_mask.repeat_interleave(num_groups, 0)
    base = torch.baddbmm(wide_base, grouped, base_keys.transpose(1, 2), alpha=scale)
    own = torch.baddbmm(wide_own, grouped, keys.transpose(1, 2), alpha=scale)
    weights = torch.cat((base, own), dim=-1).softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    by_base, by_own = weights.narrow(2, 0, num_base), weights.narrow(2, num_base, keys.shape[1])
    output = by_base.bmm(base_values).baddbmm_(by_own, values)
    by_branch = output.view(num_kv_heads, num_branches, num_groups, head_dim).transpose(0, 1)
    return by_branch.reshape(num_branches, -1), (keys, values, base_mask, own_mask)
