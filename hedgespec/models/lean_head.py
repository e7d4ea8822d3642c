"""An EAGLE-3 head for drafting on the CPU: what `eagle3.Eagle3Head` computes, with the few operators of `lean_layer`.

A draft is one row after the other, so most of a step's time is what calling its operators takes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding, silu

from hedgespec.models.eagle3 import Attend, Eagle3Head
from hedgespec.models.eagle3_layers import RMSNorm
from hedgespec.models.lean_layer import Norm, joined_matrix, length_of, paired
from hedgespec.models.packed_linear import PackedMatrix
from hedgespec.models.rotary import RotationTable


class LeanHead:
    """Same methods as the head that it is made of; float32 and inference only."""

    def __init__(self, head: Eagle3Head) -> None:
        self.config = head.config
        self.dtype = torch.float32
        self.draft_to_target = head.draft_to_target
        layer, dim = head.midlayer, head.config.head_dim
        attention, mlp = layer.self_attn, layer.mlp
        embed_norm, hidden_norm, mlp_norm, last_norm = (
            _norm(norm)
            for norm in (layer.input_layernorm, layer.hidden_norm, layer.post_attention_layernorm, head.norm)
        )
        self._table = head.embed_tokens.weight.detach()
        self._fuse = PackedMatrix(head.fc.weight, head.fc.bias)
        self._embed_floor, self._hidden_floor = embed_norm.floor, hidden_norm.floor
        self._residual_scale = hidden_norm.scale if layer.norm_before_residual else None
        self._counts = [attention.num_heads, attention.num_kv_heads, attention.num_kv_heads]
        self._joined = joined_matrix(
            [paired(attention.q_proj, dim), paired(attention.k_proj, dim), (attention.v_proj.weight, None)],
            torch.cat((embed_norm.scale, hidden_norm.scale)),
        )
        self._output = PackedMatrix(attention.o_proj.weight)
        self._mlp_floor = mlp_norm.floor
        self._gate_up = joined_matrix([(mlp.gate_proj.weight, None), (mlp.up_proj.weight, None)], mlp_norm.scale)
        self._down = PackedMatrix(mlp.down_proj.weight)
        self._last_floor = last_norm.floor
        self._head = joined_matrix([(head.lm_head.weight, None)], last_norm.scale)
        self._rotations = RotationTable(attention.rotary.embeddings)

    def embed(self, token_ids: Tensor) -> Tensor:
        """[num_tokens] -> [num_tokens, hidden]"""
        return embedding(token_ids, self._table)

    def fuse(self, features: Tensor) -> Tensor:
        """[num_tokens, 3 * target_hidden] -> [num_tokens, hidden]"""
        return self._fuse(features)

    def step(self, token_embeds: Tensor, hidden: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """See `Eagle3Head.step`; queries and keys reach `attend` with the features of a head in another order."""
        num_rows = hidden.shape[0]
        normed = hidden / length_of(hidden, self._hidden_floor)
        inputs = torch.cat((token_embeds / length_of(token_embeds, self._embed_floor), normed), dim=-1)
        heads = self._joined(inputs).view(num_rows, -1, self.config.head_dim)
        num_turned = self._counts[0] + self._counts[1]
        turned = heads.narrow(1, 0, num_turned).view(num_rows, num_turned, -1, 2)
        torch.view_as_complex(turned).mul_(self._rotations.at(positions))
        residual = hidden if self._residual_scale is None else normed * self._residual_scale
        hidden = self._output.added(residual, attend(*heads.split_with_sizes(self._counts, dim=1)))
        gate, up = self._gate_up(hidden / length_of(hidden, self._mlp_floor)).chunk(2, dim=-1)
        return self._down.added(hidden, silu(gate).mul_(up))

    def logits(self, hidden_out: Tensor) -> Tensor:
        """[num_tokens, hidden] -> [num_tokens, draft_vocab]"""
        return self._head(hidden_out / length_of(hidden_out, self._last_floor))


def _norm(norm: RMSNorm) -> Norm:
    return Norm(norm.weight.detach(), norm.eps)
