"""The decoder layer that Llama, Mistral, Qwen2, Qwen3 and Gemma share, in about fifteen operators.

transformers' own layer computes with about 36: seven products, two norms of six operators and a rotation of ten among them.
With one row each of them costs its call, not its arithmetic. Here the norms' weights are part of the matrices behind
them, queries, keys and values are one product, gate and up another, and the rotation is one complex product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hedgespec.models.memory.attention import PassAttention
from hedgespec.models.packed_linear import PackedMatrix


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
    """What a decoder layer is made of. window: rows that its attention sees, None for all; index: its KV layer."""

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
    activation: Callable[[Tensor], Tensor]
    head_dim: int
    scale: float
    window: int | None
    index: int


class LeanLayer(nn.Module):
    """Called by transformers in place of its decoder layer, with its names. float32 on the CPU, inference only.

    Halves of a head become neighbours (the rows of the weights change places), so that a pair is a complex number and
    turning it by its position one product. Queries and keys change alike, which no attention score notices.
    """

    def __init__(self, parts: LayerParts) -> None:
        super().__init__()
        dim = parts.head_dim
        self.head_dim = dim
        num_heads, num_kv_heads = parts.query.out_features // dim, parts.key.out_features // dim
        self._counts = [num_heads, num_kv_heads, num_kv_heads]
        self._num_turned = num_heads + num_kv_heads
        self._scale, self._window, self._index = parts.scale, parts.window, parts.index
        self._activation = parts.activation
        self._attention_floor, self._mlp_floor = parts.attention_norm.floor, parts.mlp_norm.floor
        self._joined = joined_matrix(
            [paired(parts.query, dim), paired(parts.key, dim), (parts.value.weight, parts.value.bias)],
            parts.attention_norm.scale,
        )
        self._output = PackedMatrix(parts.output.weight, parts.output.bias)
        gate_up = [(linear.weight, linear.bias) for linear in (parts.gate, parts.up)]
        self._gate_up = joined_matrix(gate_up, parts.mlp_norm.scale)
        self._down = PackedMatrix(parts.down.weight, parts.down.bias)
        self._head_scale: Tensor | None = None
        if parts.head_norms is not None:
            scales = [norm.scale[_pairs(dim)] for norm in parts.head_norms]
            self._head_scale = torch.cat([s.expand(n, dim) for s, n in zip(scales, self._counts[:2], strict=True)])
            self._head_floor = parts.head_norms[0].floor

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
        joined = self._joined(hidden / length_of(hidden, self._attention_floor))
        hidden = self._output.added(hidden, self._attend(joined, rotation, packed))
        gate, up = self._gate_up(hidden / length_of(hidden, self._mlp_floor)).chunk(2, dim=-1)
        return self._down.added(hidden, self._activation(gate).mul_(up))

    def _attend(self, joined: Tensor, rotation: Tensor, packed: PassAttention) -> Tensor:
        """[total_rows, (num_heads + 2 num_kv_heads) * head_dim], turned in place -> [total_rows, num_heads * head_dim]"""
        num_rows = joined.shape[0]
        turned = joined.view(num_rows, -1, self.head_dim).narrow(1, 0, self._num_turned)
        if self._head_scale is not None:
            turned.div_(length_of(turned, self._head_floor)).mul_(self._head_scale)
        torch.view_as_complex(turned.view(num_rows, self._num_turned, -1, 2)).mul_(rotation)
        heads = joined.view(1, num_rows, -1, self.head_dim).transpose(1, 2)
        query, key, value = heads.split_with_sizes(self._counts, dim=1)
        attended = packed.attend(self._index, query, key, value, self._scale, self._window)
        return attended.transpose(1, 2).reshape(num_rows, -1)


def length_of(states: Tensor, floor: Tensor) -> Tensor:
    """[..., size] -> [..., 1]: a state divided by it and times sqrt(size) is the normed state.

    sqrt(|x|^2 + size * eps); torch's `rms_norm` is no single operator on the CPU and takes three times as long.
    """
    return torch.hypot(torch.linalg.vector_norm(states, dim=-1, keepdim=True), floor)


def joined_matrix(matrices: Sequence[tuple[Tensor, Tensor | None]], scale: Tensor) -> PackedMatrix:
    """One product for several, of inputs that `scale` is still to be multiplied with."""
    weight = torch.cat([weight * scale for weight, _ in matrices])
    biases = [weight.new_zeros(len(own)) if bias is None else bias for own, bias in matrices]
    return PackedMatrix(weight, torch.cat(biases) if any(bias is not None for _, bias in matrices) else None)


def paired(linear: nn.Linear, head_dim: int) -> tuple[Tensor, Tensor | None]:
    """Weight and bias with each head's features in the order of `_pairs`."""
    order = _pairs(head_dim)
    weight = linear.weight.unflatten(0, (-1, head_dim))[:, order].flatten(0, 1)
    return weight, None if linear.bias is None else linear.bias.unflatten(0, (-1, head_dim))[:, order].flatten()


def _pairs(head_dim: int) -> Tensor:
    """0, half, 1, half + 1, ...: what is turned together stands together."""
    return torch.arange(head_dim).view(2, -1).t().flatten()
