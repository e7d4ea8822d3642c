"""EAGLE-3 heads for serving: what `head.Eagle3Head` computes, for several heads at once, with the few operators of
`lean_layer`.

Drafts and scores take one to a few rows at a time, so most of a step's time is what calling its operators takes. Heads of
one shape in one process share them: norms, rotations and activations see the rows of all heads, and only the products are
made head by head, or in one grouped product where rows are alike in number (CUDA).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import embedding

from hedgespec.models.cpu.head_stack import HeadStack
from hedgespec.models.cpu.int8_linear import can_use_int8
from hedgespec.models.cpu.scripting import scripted
from hedgespec.models.eagle3.head import Attend, Eagle3Head
from hedgespec.models.eagle3.head_weights import after_attention, before_attention, head_weights, logits_after
from hedgespec.models.rotary import RotationTable

Counts = list[int]
"""[num_heads]: rows of every head. Rows stand in the order of the heads."""


class HeadBank:
    """Inference only. `num_rows` is the sum of `counts`; queries and keys reach `attend` with the features of an attention
    head in another order than the published one, which no score notices."""

    def __init__(self, heads: Sequence[Eagle3Head], *, in_int8: bool = False) -> None:
        """heads: see `can_share`; in_int8: round weights of float32 on the CPU, where torch can."""
        first = heads[0]
        self.config, self.dtype, self.device = first.config, first.dtype, first.norm.weight.device
        self.draft_to_target = torch.stack([head.draft_to_target for head in heads])
        self.weights = head_weights(heads, in_int8=in_int8 and can_use_int8())
        self.table = first.embed_tokens.weight.detach()
        self.rotations = RotationTable(first.midlayer.self_attn.rotary.embeddings, self.device)
        stack = HeadStack(self.weights, self.table, self.draft_to_target)
        self.stack = scripted(stack) if self.device.type == "cpu" else stack

    @property
    def num_heads(self) -> int:
        return len(self.draft_to_target)

    def require_positions(self, end: int) -> None:
        """To be called before a step with positions up to `end` - 1: looking at them there would wait for the device."""
        self.rotations.require(end)

    def embed(self, token_ids: Tensor) -> Tensor:
        """[num_rows] -> [num_rows, hidden]"""
        return embedding(token_ids, self.table)

    def step(self, token_embeds: Tensor, hidden: Tensor, positions: Tensor, attend: Attend, counts: Counts) -> Tensor:
        """See `Eagle3Head.step`."""
        rotation = self.rotations.at(positions)
        query, key, value, residual = before_attention(self.weights, token_embeds, hidden, rotation, counts)
        return after_attention(self.weights, residual, attend(query, key, value), counts)

    def logits(self, hidden_out: Tensor, counts: Counts) -> Tensor:
        """[num_rows, hidden] -> [num_rows, draft_vocab]"""
        return logits_after(self.weights, hidden_out, counts)


def can_share(head: Eagle3Head, other: Eagle3Head) -> bool:
    """Whether two heads fit into one bank: alike in shape, type and place, with the same embedding of tokens."""
    table, other_table = head.embed_tokens.weight, other.embed_tokens.weight
    is_alike = (head.config, head.dtype, table.device) == (other.config, other.dtype, other_table.device)
    return is_alike and (table.data_ptr() == other_table.data_ptr() or torch.equal(table, other_table))
