"""A head's attention: of consecutive rows of a text, and of branches that part from it.

Branches are drafts that start at one or at different positions of the same text and take one token each per step. Their
attention is the pattern of EAGLE-3's training-time test: every branch sees the text's true rows up to its own start, plus
its own earlier steps (one row per step). Rows are kept once; which branch sees which of them is a mask, so that a branch
that parts takes a row of the mask along, which makes trees of branches.

Functions of plain tuples, so that TorchScript can compile them; annotations must be types here, no strings.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from hedgespec.models.memory.planned_attention import AttentionPlan, attend_planned


class HeadRows(NamedTuple):
    """The rows of one pass, in the order of their heads.

    token_ids: of every row, the token *after* the one that its state or feature belongs to
    positions: of the rows' pairs, see `head_network`
    counts:    [num_heads], rows of every head
    """

    token_ids: list[int]
    positions: list[int]
    counts: list[int]


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


def attend_texts(plan: AttentionPlan, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Store the rows' keys and values in their slots and attend; returns [num_rows, num_attention_heads * head_dim].

    query: [num_rows, num_attention_heads, head_dim]; key, value: [num_rows, num_kv_heads, head_dim]
    """
    query, key, value = _packed(query), _packed(key), _packed(value)
    return attend_planned(plan, 0, query, key, value, scale)[0].transpose(0, 1).flatten(1)


def attend_branches(
    branches: list[Branches], sizes: list[int], query: Tensor, key: Tensor, value: Tensor, scale: float
) -> tuple[Tensor, list[OwnRows]]:
    """Take the next step of the branches of several texts. sizes: number of branches of each; the rest as above.

    Returns [num_rows, num_attention_heads * head_dim] and each text's own rows after the step.
    """
    queries, keys, values = (
        query.split_with_sizes(sizes),
        key.split_with_sizes(sizes),
        value.split_with_sizes(sizes),
    )
    outputs: list[Tensor] = []
    rows: list[OwnRows] = []
    for index, own in enumerate(branches):
        output, new = _attend_one(own, queries[index], keys[index], values[index], scale)
        outputs.append(output)
        rows.append(new)
    return torch.cat(outputs), rows


def _attend_one(branches: Branches, query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, OwnRows]:
    num_branches, num_kv_heads, head_dim = key.shape[0], key.shape[1], key.shape[2]
    keys, values = key.transpose(0, 1), value.transpose(0, 1)
    # every branch sees its own new row, and no other branch does
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


def _packed(states: Tensor) -> Tensor:
    """Reorder [num_rows, attention_heads, head_dim] to [1, attention_heads, num_rows, head_dim]."""
    return states.transpose(0, 1).unsqueeze(0)
