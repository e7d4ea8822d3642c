"""The attention of EAGLE-3's training-time test (Li et al. 2025, EAGLE-3): many rows of a sequence are unrolled at once.

Row s stands for a round that starts at position s. At depth i its query sees what serving would have in memory then: the
depth-0 keys of rows 0..s (verified tokens), and the row's own keys of depths 1..i (tokens drafted since).
"""

from __future__ import annotations

import torch
from torch import Tensor


class TrainingTimeAttention:
    """Attention that holds the keys and values of one batch of sequences; call it once per depth, in order.

    starts: [num_starts], the rows that are unrolled beyond depth 0
    A call takes q [batch, rows, num_heads, head_dim], k and v [batch, rows, num_kv_heads, head_dim] and returns
    [batch, rows, num_heads * head_dim]; at depth 0 the rows are all positions, then they are the starts.
    """

    def __init__(self, starts: Tensor) -> None:
        self._starts = starts
        self._verified: tuple[Tensor, Tensor] | None = None  # each [batch, num_kv_heads, 1, positions, head_dim]
        self._drafted: list[tuple[Tensor, Tensor]] = []  # each [batch, num_kv_heads, 1, num_starts, head_dim]

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        batch, rows, num_heads, head_dim = query.shape
        keys, values = key.transpose(1, 2).unsqueeze(2), value.transpose(1, 2).unsqueeze(2)
        if self._verified is None:
            self._verified = keys, values
            last_seen = torch.arange(rows, device=query.device)
        else:
            self._drafted.append((keys, values))
            last_seen = self._starts
        verified_keys, verified_values = self._verified
        num_verified = verified_keys.shape[-2]
        # query heads of one group share a key head: [batch, num_kv_heads, group, rows, head_dim]
        grouped = query.transpose(1, 2).unflatten(1, (key.shape[2], -1)) * head_dim**-0.5
        future = torch.arange(num_verified, device=query.device) > last_seen[:, None]
        scores = (grouped @ verified_keys.transpose(-1, -2)).masked_fill(future, float("-inf"))
        own = [(grouped * drafted_keys).sum(-1, keepdim=True) for drafted_keys, _ in self._drafted]
        weights = torch.cat((scores, *own), dim=-1).softmax(-1).to(values.dtype)
        out = weights[..., :num_verified] @ verified_values
        for depth, (_, drafted_values) in enumerate(self._drafted):
            out = out + weights[..., num_verified + depth, None] * drafted_values
        return out.flatten(1, 2).transpose(1, 2).reshape(batch, rows, num_heads * head_dim)
