"""Attention of many conversations that each add one token, as one operation per layer instead of one per conversation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from hedgespec.models.causal_lm.network import Inputs
from hedgespec.models.causal_lm.packed import PackedCausalLM
from hedgespec.models.memory.kv_memory import CAPACITY_STEP, KvMemory, KvSlot


class KvTable:
    """Keys and values of num_rows conversations of one length, [num_rows, num_kv_heads, length, head_dim] per layer.

    slots: one per conversation, which are views of the table: what a packed pass writes there is in the table, too
    """

    def __init__(self, model: PackedCausalLM, num_rows: int, length: int) -> None:
        config = model.model.config.get_text_config()
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        capacity = -(-length // CAPACITY_STEP) * CAPACITY_STEP
        shape = num_rows, config.num_key_value_heads, capacity, head_dim
        self.layers = [
            (
                torch.zeros(shape, dtype=model.dtype, device=model.device),
                torch.zeros(shape, dtype=model.dtype, device=model.device),
            )
            for _ in range(model.num_layers)
        ]
        memory = KvMemory(num_rows * length)
        self.slots = [memory.open(length) for _ in range(num_rows)]
        for row, slot in enumerate(self.slots):
            slot.capacity = capacity
            slot.layers = {i: (k[row : row + 1], v[row : row + 1]) for i, (k, v) in enumerate(self.layers)}


class _OneTokenEach:
    """The attention of a pass in which each given row of a table adds one token. rows, positions: [num_active]"""

    def __init__(self, table: KvTable, rows: Tensor, positions: Tensor) -> None:
        self._table, self._rows, self._positions = table, rows, positions
        self._length = int(positions.max()) + 1
        self._last = last = torch.zeros(
            len(table.slots), dtype=torch.int64, device=rows.device
        )  # of rows that add nothing: any
        last[rows] = positions
        self._mask = (torch.arange(self._length, device=rows.device) <= last[:, None])[:, None, None]

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None = None
    ) -> Tensor:
        """See `PassAttention`."""
        keys, values = self._table.layers[layer]
        mask = self._mask
        if window is not None:
            mask = mask & (torch.arange(self._length, device=mask.device) > self._last[:, None, None, None] - window)
        for stored, new in ((keys, key), (values, value)):
            stored[self._rows, :, self._positions] = new[0].transpose(0, 1)
        all_queries = query.new_zeros(len(keys), query.shape[1], 1, query.shape[3])
        all_queries[self._rows, :, 0] = query[0].transpose(0, 1)
        attended = scaled_dot_product_attention(
            all_queries,
            keys[:, :, : self._length],
            values[:, :, : self._length],
            attn_mask=mask,
            scale=scale,
            enable_gqa=query.shape[1] != keys.shape[1],
        )
        return attended[self._rows, :, 0].transpose(0, 1).unsqueeze(0)


@torch.inference_mode()
def add_one_token_each(
    model: PackedCausalLM, table: KvTable, rows: Sequence[int], token_ids: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Run one new token of each given row; return logits [num_active, vocab] and features [num_active, 3 * hidden]."""
    slots: list[KvSlot] = [table.slots[row] for row in rows]
    positions = torch.tensor([slot.length for slot in slots], device=model.device)
    active = torch.tensor(rows, device=model.device)
    ids = torch.tensor(token_ids, device=model.device)
    attention = _OneTokenEach(table, active, positions)
    logits, taps = model.network(Inputs(ids, positions, None, attention), model.tapped)
    for slot in slots:
        slot.length += 1
    return logits, torch.cat(taps, dim=-1)
