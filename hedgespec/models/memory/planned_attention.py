"""Attention over packed rows, as functions of tuples: each session stores its new keys and values and attends to its own.

TorchScript compiles these functions together with the layers around them (`models/lean`), so annotations must be types
here, no strings.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


class AttentionPlan(NamedTuple):
    """A pass's sessions: where each one's rows are written, and what they attend to.

    sizes:  [num_sessions + 1] rows of every session, then the spare rows, which no session owns. Pieces of one session that
            attend by themselves, one after the other, count as sessions
    starts: [num_sessions] the slot row that a session's first new row is written to
    [num_layers * num_sessions], session by session within a layer:
    keys, values: the slot's, [1, num_kv_heads, capacity, head_dim]
    masks:        [num_rows, start + num_rows] with 0 and -inf; None where every row is visible or is_causal says it all.
                  One from `exact_attention` has more rows and columns
    is_causal:    whether plain causal attention is the mask
    """

    sizes: list[int]
    starts: list[int]
    keys: list[Tensor]
    values: list[Tensor]
    masks: list[Tensor | None]
    is_causal: list[bool]


def attend_planned(plan: AttentionPlan, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Store the new keys and values; every row attends to the rows of its session that the plan lets it see.

    query: [1, num_heads, total_rows, head_dim]; key, value: [1, num_kv_heads, total_rows, head_dim]
    layer: index within the plan. Returns [1, num_heads, total_rows, head_dim]; spare rows get meaningless values.
    """
    num_sessions = len(plan.starts)
    first = layer * num_sessions
    if num_sessions == 1 and plan.sizes[1] == 0:
        stored = plan.keys[first], plan.values[first]
        visible = plan.masks[first], plan.is_causal[first]
        return attend_session(query, key, value, stored, plan.starts[0], visible, scale)
    queries, keys, values = (
        query.split_with_sizes(plan.sizes, dim=2),
        key.split_with_sizes(plan.sizes, dim=2),
        value.split_with_sizes(plan.sizes, dim=2),
    )
    outputs: list[Tensor] = []
    for session, start in enumerate(plan.starts):
        index = first + session
        stored = plan.keys[index], plan.values[index]
        visible = plan.masks[index], plan.is_causal[index]
        own = attend_session(queries[session], keys[session], values[session], stored, start, visible, scale)
        outputs.append(own.transpose(1, 2))
    outputs.append(queries[num_sessions].transpose(1, 2))
    return torch.cat(outputs, dim=1).transpose(1, 2)  # row by row in memory, as the output projection reads it


def attend_session(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    stored: tuple[Tensor, Tensor],
    start: int,
    visible: tuple[Tensor | None, bool],
    scale: float,
) -> Tensor:
    """Do the same for one session. stored: its slot's keys and values; visible: its mask and is_causal."""
    num_rows = key.shape[2]
    keys, values = stored
    keys.narrow(2, start, num_rows).copy_(key)
    values.narrow(2, start, num_rows).copy_(value)
    mask, is_causal = visible
    if mask is not None and mask.shape[0] > num_rows:
        return _attend_exactly(query, keys.narrow(2, 0, mask.shape[1]), values.narrow(2, 0, mask.shape[1]), mask, scale)
    keys, values = keys.narrow(2, 0, start + num_rows), values.narrow(2, 0, start + num_rows)
    is_grouped = query.shape[1] != keys.shape[1]
    return scaled_dot_product_attention(
        query, keys, values, attn_mask=mask, is_causal=is_causal, scale=scale, enable_gqa=is_grouped
    )


def _attend_exactly(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Attend as `exact_attention` says: the heads that share keys are rows of one head, padded to the mask's rows."""
    num_heads, num_rows, head_dim = query.shape[1], query.shape[2], query.shape[3]
    num_queries = num_heads // keys.shape[1] * num_rows
    folded = query.reshape(1, keys.shape[1], num_queries, head_dim)
    num_spare = mask.shape[0] - num_queries
    padded = torch.cat([folded, keys.narrow(2, 0, num_spare)], dim=2) if num_spare > 0 else folded  # any rows will do
    attended = scaled_dot_product_attention(padded, keys, values, attn_mask=mask, scale=scale)
    return attended.narrow(2, 0, num_queries).reshape(1, num_heads, num_rows, head_dim)
