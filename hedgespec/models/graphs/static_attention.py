"""Attention whose shapes and addresses depend on the bucket alone, so that a graph can capture it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from hedgespec.models.graphs.kv_lanes import KvLanes


class StaticAttention:
    """A `PassAttention` of `batch` sessions with `block` consecutive rows each, all chains.

    lane: [batch] each session's lane; rows: [batch, block] the rows of its lane. Both are read when attention is computed,
    so that a captured graph sees what was written into them before its run.
    context: all rows are before this one. The first `context` keys and values of the lanes are copied together per layer, as
    no kernel of torch reads batches from scattered lanes; beside the weights the copies are small until batches are large.
    """

    def __init__(self, lanes: KvLanes, lane: Tensor, rows: Tensor, context: int) -> None:
        self._lanes = lanes
        self._lane = lane
        self._rows = rows
        self._context = context
        self._masks: dict[int | None, Tensor] = {}

    def begin(self) -> None:
        """Start a pass: masks are built from the rows that are in the buffers now."""
        self._masks = {}

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None = None
    ) -> Tensor:
        """See `PassAttention.attend`; total_rows is batch * block."""
        keys, values = (self._stored(*pair) for pair in zip(self._lanes.layers[layer], (key, value), strict=True))
        (batch, block), (_, num_heads, _, head_dim), num_kv_heads = self._rows.shape, query.shape, key.shape[1]
        num_groups = num_heads // num_kv_heads
        # queries that share keys become rows of one attention head: not every kernel supports groups
        grouped = query.reshape(num_kv_heads, num_groups, batch, block, head_dim).permute(2, 0, 1, 3, 4)
        mask = self._mask(window)[:, None, None].expand(batch, 1, num_groups, block, self._context)
        output = scaled_dot_product_attention(
            grouped.reshape(batch, num_kv_heads, num_groups * block, head_dim),
            keys,
            values,
            attn_mask=mask.reshape(batch, 1, num_groups * block, self._context),
            scale=scale,
        )
        parts = output.view(batch, num_kv_heads, num_groups, block, head_dim).permute(1, 2, 0, 3, 4)
        return parts.reshape(1, num_heads, batch * block, head_dim)

    def _stored(self, stored: Tensor, new: Tensor) -> Tensor:
        """Write the new rows and return all rows of these sessions, [batch, num_kv_heads, context, head_dim]."""
        _, num_heads, _, head_dim = new.shape
        batch, block = self._rows.shape
        stored[self._lane[:, None], :, self._rows] = new[0].view(num_heads, batch, block, head_dim).permute(1, 2, 0, 3)
        return stored.narrow(2, 0, self._context).index_select(0, self._lane)

    def _mask(self, window: int | None) -> Tensor:
        """Return [batch, block, context], True where a row attends to."""
        if window not in self._masks:
            columns = torch.arange(self._context, device=self._rows.device)
            visible = columns <= self._rows[..., None]
            self._masks[window] = visible if window is None else visible & (columns > self._rows[..., None] - window)
        return self._masks[window]
