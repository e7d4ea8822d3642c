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
from torch.nn.functional import embedding, silu

from hedgespec.models.eagle3.grouped_matrix import GroupedMatrix, grouped_matrix
from hedgespec.models.eagle3.head import Attend, Eagle3Head
from hedgespec.models.eagle3.layers import RMSNorm
from hedgespec.models.lean_layer import Norm, length_of, paired
from hedgespec.models.rotary import RotationTable

Counts = Sequence[int]
"""[num_heads]: rows of every head. Rows stand in the order of the heads."""


class HeadBank:
    """Inference only. `num_rows` is the sum of `counts`; queries and keys reach `attend` with the features of an attention
    head in another order than the published one, which no score notices."""

    def __init__(self, heads: Sequence[Eagle3Head]) -> None:
        """heads: see `can_share`."""
        first = heads[0]
        self.config, self.dtype, self.device = first.config, first.dtype, first.norm.weight.device
        self.draft_to_target = [head.draft_to_target for head in heads]
        layers, dim = [head.midlayer for head in heads], first.config.head_dim
        attentions, mlps = [layer.self_attn for layer in layers], [layer.mlp for layer in layers]
        embed_norms, hidden_norms, mlp_norms, last_norms = (
            [_norm(norm) for norm in norms]
            for norms in (
                [layer.input_layernorm for layer in layers],
                [layer.hidden_norm for layer in layers],
                [layer.post_attention_layernorm for layer in layers],
                [head.norm for head in heads],
            )
        )
        self._table = first.embed_tokens.weight.detach()
        self._fuse = grouped_matrix([(head.fc.weight, head.fc.bias) for head in heads])
        self._floors = [norms[0].floor.to(self.device) for norms in (embed_norms, hidden_norms, mlp_norms, last_norms)]
        has_normed_residual = layers[0].norm_before_residual
        self._residual_scales = torch.stack([norm.scale for norm in hidden_norms]) if has_normed_residual else None
        own = attentions[0]
        self._splits = [own.num_heads, own.num_kv_heads, own.num_kv_heads]
        self._joined = _joined(
            [[paired(a.q_proj, dim), paired(a.k_proj, dim), (a.v_proj.weight, None)] for a in attentions],
            [torch.cat((e.scale, h.scale)) for e, h in zip(embed_norms, hidden_norms, strict=True)],
        )
        self._output = grouped_matrix([(a.o_proj.weight, None) for a in attentions])
        self._gate_up = _joined(
            [[(mlp.gate_proj.weight, None), (mlp.up_proj.weight, None)] for mlp in mlps], [n.scale for n in mlp_norms]
        )
        self._down = grouped_matrix([(mlp.down_proj.weight, None) for mlp in mlps])
        self._head = _joined([[(head.lm_head.weight, None)] for head in heads], [norm.scale for norm in last_norms])
        self._rotations = RotationTable(own.rotary.embeddings, self.device)

    @property
    def num_heads(self) -> int:
        return len(self.draft_to_target)

    def require_positions(self, end: int) -> None:
        """To be called before a step with positions up to `end` - 1: looking at them there would wait for the device."""
        self._rotations.require(end)

    def embed(self, token_ids: Tensor) -> Tensor:
        """[num_rows] -> [num_rows, hidden]"""
        return embedding(token_ids, self._table)

    def fuse(self, features: Tensor, counts: Counts) -> Tensor:
        """[num_rows, 3 * target_hidden] -> [num_rows, hidden]"""
        return self._fuse(features, counts)

    def step(self, token_embeds: Tensor, hidden: Tensor, positions: Tensor, attend: Attend, counts: Counts) -> Tensor:
        """See `Eagle3Head.step`."""
        num_rows, (embed_floor, hidden_floor, mlp_floor, _) = hidden.shape[0], self._floors
        normed = _divided(hidden, hidden_floor)
        heads = self._joined(torch.cat((_divided(token_embeds, embed_floor), normed), dim=-1), counts)
        heads = self._turned(heads.view(num_rows, -1, self.config.head_dim), positions)
        residual = hidden if self._residual_scales is None else normed * self._scale_rows(counts)
        hidden = self._output.added(residual, attend(*heads.split_with_sizes(self._splits, dim=1)), counts)
        gate, up = self._gate_up(_divided(hidden, mlp_floor), counts).chunk(2, dim=-1)
        return self._down.added(hidden, silu(gate).mul_(up), counts)

    def logits(self, hidden_out: Tensor, counts: Counts) -> Tensor:
        """[num_rows, hidden] -> [num_rows, draft_vocab]"""
        return self._head(_divided(hidden_out, self._floors[3]), counts)

    def _turned(self, heads: Tensor, positions: Tensor) -> Tensor:
        """Queries and keys rotated by their positions. heads: [num_rows, queries + keys + values, head_dim]"""
        num_turned = self._splits[0] + self._splits[1]
        rotations = self._rotations.at(positions)
        turned = heads.narrow(1, 0, num_turned)
        if turned.dtype == torch.float32:
            torch.view_as_complex(turned.view(len(heads), num_turned, -1, 2)).mul_(rotations)
        else:
            wide = torch.view_as_complex(turned.float().view(len(heads), num_turned, -1, 2)) * rotations
            turned.copy_(torch.view_as_real(wide).flatten(2))
        return heads

    def _scale_rows(self, counts: Counts) -> Tensor:
        """[num_rows, hidden] or, of one head, [hidden]: what each row's head scales its residual with."""
        assert self._residual_scales is not None
        used = [(place, count) for place, count in enumerate(counts) if count]
        if len(used) == 1:
            return self._residual_scales[used[0][0]]
        return torch.cat([self._residual_scales[place].expand(count, -1) for place, count in used])


def can_share(head: Eagle3Head, other: Eagle3Head) -> bool:
    """Whether two heads fit into one bank: alike in shape, type and place, with the same embedding of tokens."""
    table, other_table = head.embed_tokens.weight, other.embed_tokens.weight
    is_alike = (head.config, head.dtype, table.device) == (other.config, other.dtype, other_table.device)
    return is_alike and (table.data_ptr() == other_table.data_ptr() or torch.equal(table, other_table))


def _divided(states: Tensor, floor: Tensor) -> Tensor:
    """Normed but for the norm's scale, which is part of the matrix behind it; in float32."""
    if states.dtype == torch.float32:
        return states / length_of(states, floor)
    wide = states.float()
    return (wide / length_of(wide, floor)).to(states.dtype)


def _joined(parts: Sequence[Sequence[tuple[Tensor, Tensor | None]]], scales: Sequence[Tensor]) -> GroupedMatrix:
    """One product for several of the same inputs, per head. parts: per head (weight, no bias); scales: of the inputs."""
    joined = [torch.cat([w.float() * s.float() for w, _ in own]) for own, s in zip(parts, scales, strict=True)]
    return grouped_matrix([(weight.to(parts[0][0][0].dtype), None) for weight in joined])


def _norm(norm: RMSNorm) -> Norm:
    return Norm(norm.weight.detach(), norm.eps)
