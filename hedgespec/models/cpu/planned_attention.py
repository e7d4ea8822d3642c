"""Attention over packed tokens as functions of plain tuples, so that `scripting` can compile the layers around it.

Annotations must be types here, no strings.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


class AttentionPlan(NamedTuple):
    """Where every session's rows go in a pass, and what they see.

    sizes:  rows of every session, and last of all those that belong to nobody
    starts: per session the row of its slot that its first one is written to
    Per layer and session, session by session within a layer:
    keys, values: the slot's, [1, num_kv_heads, capacity, head_dim]
    masks:        [num_rows, start + num_rows] with 0 and -inf; None where there is nothing to hide, or where
    is_causal:    plain causal attention says it
    """

    sizes: list[int]
    starts: list[int]
    keys: list[Tensor]
    values: list[Tensor]
    masks: list[Tensor | None]
    is_causal: list[bool]


def attend_planned(plan: AttentionPlan, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Store the new keys and values and attend to them and to everything before them in the same session.

    query: [1, num_heads, total_rows, head_dim]; key, value: [1, num_kv_heads, total_rows, head_dim]
    layer: its number within the plan. Returns [1, num_heads, total_rows, head_dim].
    """
    num_sessions = len(plan.starts)
    first = layer * num_sessions
    if num_sessions == 1 and plan.sizes[1] == 0:
        stored = plan.keys[first], plan.values[first]
        seen = plan.masks[first], plan.is_causal[first]
        return attend_rows(query, key, value, stored, plan.starts[0], seen, scale)
    queries, keys, values = (
        query.split_with_sizes(plan.sizes, dim=2),
        key.split_with_sizes(plan.sizes, dim=2),
        value.split_with_sizes(plan.sizes, dim=2),
    )
    outputs: list[Tensor] = []
    for session, start in enumerate(plan.starts):
        at = first + session
        stored = plan.keys[at], plan.values[at]
        seen = plan.masks[at], plan.is_causal[at]
        own = attend_rows(queries[session], keys[session], values[session], stored, start, seen, scale)
        outputs.append(own.transpose(1, 2))
    outputs.append(queries[num_sessions].transpose(1, 2))
    return torch.cat(outputs, dim=1).transpose(1, 2)  # joined as what follows reads them, row by row


def attend_rows(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    stored: tuple[Tensor, Tensor],
    start: int,
    seen: tuple[Tensor | None, bool],
    scale: float,
) -> Tensor:
    """Of one session. stored: its slot's keys and values; seen: mask and is_causal of an `AttentionPlan`."""
    num_rows = key.shape[2]
    keys, values = stored
    keys.narrow(2, start, num_rows).copy_(key)
    values.narrow(2, start, num_rows).copy_(value)
    keys, values = keys.narrow(2, 0, start + num_rows), values.narrow(2, 0, start + num_rows)
    mask, is_causal = seen
    is_grouped = query.shape[1] != keys.shape[1]
    return scaled_dot_product_attention(
        query, keys, values, attn_mask=mask, is_causal=is_causal, scale=scale, enable_gqa=is_grouped
    )
