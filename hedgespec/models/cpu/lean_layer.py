"""The decoder layer that Llama, Mistral, Qwen2, Qwen3 and Gemma share, in about fifteen operators.

transformers' own layer computes with about 36: seven products, two norms of six operators and a rotation of ten among them.
With one row each of them costs its call, not its arithmetic. Here the norms' weights are part of the matrices behind
them, queries, keys and values are one product, gate and up another, and the rotation is one complex product.

A layer is a tuple of numbers and tensors, and functions of it that `scripting` can compile.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, silu

from hedgespec.models.cpu.packed_linear import PackedMatrix, packed_matrix, product, product_onto
from hedgespec.models.memory.attention import LayerShape, PassAttention

ACTIVATIONS = ("silu", "gelu:tanh", "gelu:none")
"""Names as `activated` takes them: torch's function, and its approximation behind a colon."""


@dataclass(frozen=True, slots=True)
class Norm:
    """A root-mean-square norm. weight: [size], what the normed state is multiplied with."""

    weight: Tensor
    eps: float

    @property
    def size(self) -> int:
        return len(self.weight)

    @property
    def scale(self) -> Tensor:
        """[size]: what a state divided by `length_of` is multiplied with."""
        return self.weight * math.sqrt(self.size)

    @property
    def floor(self) -> Tensor:
        """eps, as the length that every state has at least."""
        return torch.tensor(math.sqrt(self.size * self.eps))


@dataclass(frozen=True, slots=True)
class LayerParts:
    """What a decoder layer is made of. activation: one of ACTIVATIONS; window: rows that its attention sees, None for all;
    index: its KV layer."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    output: nn.Linear
    gate: nn.Linear
    up: nn.Linear
    down: nn.Linear
    attention_norm: Norm
    mlp_norm: Norm
    head_norms: tuple[Norm, Norm] | None
    activation: str
    head_dim: int
    scale: float
    window: int | None
    index: int


class LayerWeights(NamedTuple):
    """What a lean layer computes with. float32 on the CPU, inference only.

    joined:     queries, keys and values of all heads, with the norm before them
    head_scale: [num_heads + num_kv_heads, head_dim], of norms of queries and keys
    scale:      of attention scores
    """

    joined: PackedMatrix
    output: PackedMatrix
    gate_up: PackedMatrix
    down: PackedMatrix
    attention_floor: Tensor
    mlp_floor: Tensor
    head_scale: Tensor | None
    head_floor: Tensor
    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    activation: str


def layer_weights(parts: LayerParts) -> LayerWeights:
    """Halves of a head become neighbours (the rows of the weights change places), so that a pair is a complex number and
    turning it by its position one product. Queries and keys change alike, which no attention score notices.
    """
    dim = parts.head_dim
    num_heads, num_kv_heads = parts.query.out_features // dim, parts.key.out_features // dim
    heads = [paired(parts.query, dim), paired(parts.key, dim), (parts.value.weight, parts.value.bias)]
    gate_up = [(linear.weight, linear.bias) for linear in (parts.gate, parts.up)]
    head_scale = None
    if parts.head_norms is not None:
        scales = zip(parts.head_norms, (num_heads, num_kv_heads), strict=True)
        head_scale = torch.cat([norm.scale[_pairs(dim)].expand(num, dim) for norm, num in scales])
    return LayerWeights(
        joined=joined_matrix(heads, parts.attention_norm.scale),
        output=packed_matrix(parts.output.weight, parts.output.bias),
        gate_up=joined_matrix(gate_up, parts.mlp_norm.scale),
        down=packed_matrix(parts.down.weight, parts.down.bias),
        attention_floor=parts.attention_norm.floor,
        mlp_floor=parts.mlp_norm.floor,
        head_scale=head_scale,
        head_floor=parts.head_norms[0].floor if parts.head_norms is not None else torch.zeros(()),
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=dim,
        scale=parts.scale,
        activation=parts.activation,
    )


def before_attention(layer: LayerWeights, hidden: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries [1, num_heads, total_rows, head_dim], keys and values [1, num_kv_heads, total_rows, head_dim].

    hidden: [total_rows, hidden]; rotation: [total_rows, 1, head_dim / 2], see `rotary.rotation_of`
    """
    num_rows, num_turned = hidden.shape[0], layer.num_heads + layer.num_kv_heads
    joined = product(layer.joined, hidden / length_of(hidden, layer.attention_floor))
    turned = joined.view(num_rows, -1, layer.head_dim).narrow(1, 0, num_turned)
    head_scale = layer.head_scale
    if head_scale is not None:
        turned.div_(length_of(turned, layer.head_floor)).mul_(head_scale)
    torch.view_as_complex(turned.view(num_rows, num_turned, -1, 2)).mul_(rotation)
    heads = joined.view(1, num_rows, -1, layer.head_dim).transpose(1, 2)
    query, key, value = heads.split_with_sizes([layer.num_heads, layer.num_kv_heads, layer.num_kv_heads], dim=1)
    return query, key, value


def after_attention(layer: LayerWeights, hidden: Tensor, attended: Tensor) -> Tensor:
    """What leaves the layer, [total_rows, hidden]. attended: [1, num_heads, total_rows, head_dim]"""
    hidden = product_onto(layer.output, hidden, attended.transpose(1, 2).reshape(hidden.shape[0], -1))
    gate, up = product(layer.gate_up, hidden / length_of(hidden, layer.mlp_floor)).chunk(2, dim=-1)
    return product_onto(layer.down, hidden, activated(gate, layer.activation).mul_(up))


def activated(states: Tensor, name: str) -> Tensor:
    """name: one of ACTIVATIONS"""
    if name == "silu":
        return silu(states)
    return gelu(states, approximate="tanh" if name == "gelu:tanh" else "none")


class LeanLayer(nn.Module):
    """Called by transformers in place of its decoder layer, with its names."""

    def __init__(self, parts: LayerParts) -> None:
        super().__init__()
        self.weights = layer_weights(parts)
        self.shape = LayerShape(parts.index, self.weights.num_kv_heads, parts.head_dim, parts.window)

    def forward(
        self,
        hidden_states: Tensor,
        *,
        position_embeddings: tuple[Tensor, Tensor],
        packed: PassAttention,
        **_: object,
    ) -> Tensor:
        """hidden_states: [1, total_rows, hidden]; position_embeddings: cosines and sines, [1, total_rows, head_dim]"""
        return self.step(hidden_states[0], packed.rotation(position_embeddings), packed).unsqueeze(0)

    def step(self, hidden: Tensor, rotation: Tensor, packed: PassAttention) -> Tensor:
        """hidden: [total_rows, hidden]; rotation: [total_rows, 1, head_dim / 2], see `rotary.rotation_of`"""
        query, key, value = before_attention(self.weights, hidden, rotation)
        attended = packed.attend(self.shape.index, query, key, value, self.weights.scale, self.shape.window)
        return after_attention(self.weights, hidden, attended)


def length_of(states: Tensor, floor: Tensor) -> Tensor:
    """[..., size] -> [..., 1]: a state divided by it and times sqrt(size) is the normed state.

    sqrt(|x|^2 + size * eps); torch's `rms_norm` is no single operator on the CPU and takes three times as long.
    """
    return torch.hypot(torch.linalg.vector_norm(states, dim=[-1], keepdim=True), floor)


def joined_matrix(matrices: Sequence[tuple[Tensor, Tensor | None]], scale: Tensor) -> PackedMatrix:
    """One product for several, of inputs that `scale` is still to be multiplied with."""
    weight = torch.cat([weight * scale for weight, _ in matrices])
    biases = [weight.new_zeros(len(own)) if bias is None else bias for own, bias in matrices]
    return packed_matrix(weight, torch.cat(biases) if any(bias is not None for _, bias in matrices) else None)


def paired(linear: nn.Linear, head_dim: int) -> tuple[Tensor, Tensor | None]:
    """Weight and bias with each head's features in the order of `_pairs`."""
    order = _pairs(head_dim)
    weight = linear.weight.unflatten(0, (-1, head_dim))[:, order].flatten(0, 1)
    return weight, None if linear.bias is None else linear.bias.unflatten(0, (-1, head_dim))[:, order].flatten()


def _pairs(head_dim: int) -> Tensor:
    """0, half, 1, half + 1, ...: what is turned together stands together."""
    return torch.arange(head_dim).view(2, -1).t().flatten()
