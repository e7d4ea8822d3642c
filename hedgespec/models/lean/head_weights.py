"""The weights of several EAGLE-3 heads laid out for few operators, and the two halves of a step around its attention.

Drafts and scores take one to a few rows at a time, so calling operators takes most of a step's time. Heads of one shape
share them: norms, rotations and activations see the rows of all heads; only products are made head by head, or in one
batched product where heads have equally many rows (CUDA). As in `lean_layer`, norms' scales are part of the matrices behind
them, matrices of the same inputs are joined, and the features of an attention head stand in another order than the
published one, which no attention score notices.

Functions of plain tuples, so that TorchScript can compile them; annotations must be types here, no strings.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import silu

from hedgespec.models.eagle3.head import Eagle3Head
from hedgespec.models.eagle3.layers import RMSNorm
from hedgespec.models.lean.grouped_matrix import GroupedMatrix, grouped_matrix, grouped_product, grouped_product_onto
from hedgespec.models.lean.lean_layer import Norm, length_of, paired


class HeadWeights(NamedTuple):
    """The matrices of all heads: fuse, joined (queries, keys and values), output, gate_up, down and lm_head.

    floors:          of the norms of embeddings, states, the MLP's inputs and logits' inputs, see `lean_layer.Norm`
    residual_scales: [num_heads, hidden], of heads whose residual is normed
    scale:           of attention scores
    """

    fuse: GroupedMatrix
    joined: GroupedMatrix
    output: GroupedMatrix
    gate_up: GroupedMatrix
    down: GroupedMatrix
    lm_head: GroupedMatrix
    floors: list[Tensor]
    residual_scales: Tensor | None
    num_attention_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float


def head_weights(heads: Sequence[Eagle3Head], *, in_int8: bool) -> HeadWeights:
    """Lay out the weights of heads that are alike, see `head_bank.can_share`.

    in_int8: round all matrices but `fuse`. Features of a large target have components that are a thousand times the others,
        and rounding all of them by one step would leave nothing of the others
    """
    layers, config, device = [head.midlayer for head in heads], heads[0].config, heads[0].norm.weight.device
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
    dim = config.head_dim
    is_normed = layers[0].norm_before_residual
    return HeadWeights(
        fuse=grouped_matrix([(head.fc.weight, head.fc.bias) for head in heads]),
        joined=_joined(
            [[paired(a.q_proj, dim)[0], paired(a.k_proj, dim)[0], a.v_proj.weight] for a in attentions],
            [torch.cat((e.scale, h.scale)) for e, h in zip(embed_norms, hidden_norms, strict=True)],
            in_int8=in_int8,
        ),
        output=grouped_matrix([(a.o_proj.weight, None) for a in attentions], in_int8=in_int8),
        gate_up=_joined(
            [[mlp.gate_proj.weight, mlp.up_proj.weight] for mlp in mlps],
            [norm.scale for norm in mlp_norms],
            in_int8=in_int8,
        ),
        down=grouped_matrix([(mlp.down_proj.weight, None) for mlp in mlps], in_int8=in_int8),
        lm_head=_joined(
            [[head.lm_head.weight] for head in heads], [norm.scale for norm in last_norms], in_int8=in_int8
        ),
        floors=[norms[0].floor.to(device) for norms in (embed_norms, hidden_norms, mlp_norms, last_norms)],
        residual_scales=torch.stack([norm.scale for norm in hidden_norms]) if is_normed else None,
        num_attention_heads=config.num_attention_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=dim,
        scale=dim**-0.5,
    )


def before_attention(
    weights: HeadWeights, token_embeds: Tensor, hidden: Tensor, rotation: Tensor, counts: list[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return query, key and value, [num_rows, num_attention_heads or num_kv_heads, head_dim], and the residual.

    token_embeds, hidden: [num_rows, hidden]; rotation: [num_rows, 1, head_dim / 2]; counts: rows of every head
    """
    normed = _divided(hidden, weights.floors[1])
    states = torch.cat((_divided(token_embeds, weights.floors[0]), normed), dim=-1)
    joined = grouped_product(weights.joined, states, counts).view(hidden.shape[0], -1, weights.head_dim)
    _turn(joined.narrow(1, 0, weights.num_attention_heads + weights.num_kv_heads), rotation)
    sizes = [weights.num_attention_heads, weights.num_kv_heads, weights.num_kv_heads]
    query, key, value = joined.split_with_sizes(sizes, dim=1)
    scales = weights.residual_scales
    residual = hidden if scales is None else normed * _scale_rows(scales, counts)
    return query, key, value, residual


def after_attention(weights: HeadWeights, residual: Tensor, attended: Tensor, counts: list[int]) -> Tensor:
    """Return the next states, [num_rows, hidden]. attended: [num_rows, num_attention_heads * head_dim]"""
    hidden = grouped_product_onto(weights.output, residual, attended, counts)
    gate, up = grouped_product(weights.gate_up, _divided(hidden, weights.floors[2]), counts).chunk(2, dim=-1)
    return grouped_product_onto(weights.down, hidden, silu(gate).mul_(up), counts)


def logits_after(weights: HeadWeights, states: Tensor, counts: list[int]) -> Tensor:
    """Turn states into logits: [num_rows, hidden] -> [num_rows, draft_vocab]."""
    return grouped_product(weights.lm_head, _divided(states, weights.floors[3]), counts)


def _turn(turned: Tensor, rotation: Tensor) -> None:
    """Rotate queries and keys by their positions, in place. turned: [num_rows, queries + keys, head_dim]"""
    num_rows, num_turned = turned.shape[0], turned.shape[1]
    if turned.dtype == torch.float32:
        torch.view_as_complex(turned.view(num_rows, num_turned, -1, 2)).mul_(rotation)
    else:
        wide = torch.view_as_complex(turned.float().view(num_rows, num_turned, -1, 2)) * rotation
        turned.copy_(torch.view_as_real(wide).flatten(2))


def _scale_rows(scales: Tensor, counts: list[int]) -> Tensor:
    """Return what each row's head scales its residual with, [num_rows, hidden]."""
    parts: list[Tensor] = []
    for head, count in enumerate(counts):
        parts.append(scales[head].expand(count, -1))
    return torch.cat(parts)


def _divided(states: Tensor, floor: Tensor) -> Tensor:
    """Norm the states in float32, without the norm's scale, which is part of the matrix behind it."""
    if states.dtype == torch.float32:
        return states / length_of(states, floor)
    wide = states.float()
    return (wide / length_of(wide, floor)).to(states.dtype)


def _joined(parts: Sequence[Sequence[Tensor]], scales: Sequence[Tensor], *, in_int8: bool) -> GroupedMatrix:
    """Join each head's matrices of the same inputs into one. parts: weights per head; scales: of the inputs."""
    joined = [torch.cat([w.float() * scale.float() for w in own]) for own, scale in zip(parts, scales, strict=True)]
    return grouped_matrix([(weight.to(parts[0][0].dtype), None) for weight in joined], in_int8=in_int8)


def _norm(norm: RMSNorm) -> Norm:
    return Norm(norm.weight.detach(), norm.eps)
