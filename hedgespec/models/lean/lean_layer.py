"""A lean layer computes the decoder layer of Llama, Mistral, Qwen2, Qwen3 and Gemma with about 15 operators instead of 36.

With one row an operator costs its call, not its arithmetic. transformers' layer has seven products, two norms of six
operators and a rotation of ten. Here the norms' weights are part of the matrices that follow them; queries, keys and values
are one product, gate and up another, and the rotation is one complex product.

A layer's weights are a tuple, and its two halves are functions of it that `scripting` can compile; annotations must be
types here, no strings.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, silu

from hedgespec.config import Quantization
from hedgespec.models.lean.target_matrix import Matrix, matrix_of, product, product_onto
from hedgespec.models.memory.attention import LayerShape, PassAttention
from hedgespec.models.rotary import rotation_of

ACTIVATIONS = ("silu", "gelu:tanh", "gelu:none")
"""Names for `activated`: torch's function, then its approximation after a colon."""


@dataclass(frozen=True, slots=True)
class Norm:
    """A root-mean-square norm. weight: [size], the factor of the normed state."""

    weight: Tensor
    eps: float

    @property
    def size(self) -> int:
        return len(self.weight)

    @property
    def scale(self) -> Tensor:
        """The factor of a state divided by `length_of`, [size]."""
        return self.weight * math.sqrt(self.size)

    @property
    def floor(self) -> Tensor:
        """eps as the least length that a state is divided by."""
        return torch.tensor(math.sqrt(self.size * self.eps))


class LayerWeights(NamedTuple):
    """The weights of a lean layer on the CPU, inference only.

    joined:           queries, keys and values of all attention heads
    gate_up:          gate and up of the MLP
    *_floor:          of the norms before attention and MLP and of queries and keys, see `Norm.floor`
    attention_scale, mlp_scale: [hidden] of the norms before attention and MLP; None where the matrix behind holds it:
                      rounded weights are nearer to the published ones without it
    query_key_scale:  [num_heads + num_kv_heads, head_dim], None without norms of queries and keys
    scale:            of attention scores
    """

    joined: Matrix
    output: Matrix
    gate_up: Matrix
    down: Matrix
    attention_floor: Tensor
    mlp_floor: Tensor
    attention_scale: Tensor | None
    mlp_scale: Tensor | None
    query_key_scale: Tensor | None
    query_key_floor: Tensor
    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    activation: str


def layer_weights(
    attention: Any,
    mlp: Any,
    norms: Sequence[Norm],
    query_key_norms: Sequence[Norm],
    activation: str,
    scale: float,
    quantization: Quantization,
) -> LayerWeights:
    """Join, round and pack the weights of a layer of transformers.

    norms: before attention and before the MLP; query_key_norms: of each attention head's queries and keys, or none
    activation: one of ACTIVATIONS; scale: of attention scores

    The rows of the query and key weights are reordered so that the two features of a rotated pair stand side by side: a pair
    is then one complex number and its rotation one product. Queries and keys change alike, so attention scores do not.
    """
    dim = attention.head_dim
    num_heads, num_kv_heads = attention.q_proj.out_features // dim, attention.k_proj.out_features // dim
    value = attention.v_proj.weight, attention.v_proj.bias
    query_key_scale, query_key_floor = None, torch.zeros(())
    if query_key_norms:
        query_key_floor = query_key_norms[0].floor
        scales = zip(query_key_norms, (num_heads, num_kv_heads), strict=True)
        query_key_scale = torch.cat([norm.scale[_pairs(dim)].expand(num, dim) for norm, num in scales])
    query_key_value = [paired(attention.q_proj, dim), paired(attention.k_proj, dim), value]
    gate_up = [(part.weight, part.bias) for part in (mlp.gate_proj, mlp.up_proj)]
    is_folded = quantization == "none"
    return LayerWeights(
        joined=joined_matrix(query_key_value, norms[0].scale if is_folded else None, quantization),
        output=matrix_of(attention.o_proj.weight, attention.o_proj.bias, quantization),
        gate_up=joined_matrix(gate_up, norms[1].scale if is_folded else None, quantization),
        down=matrix_of(mlp.down_proj.weight, mlp.down_proj.bias, quantization),
        attention_floor=norms[0].floor,
        mlp_floor=norms[1].floor,
        attention_scale=None if is_folded else norms[0].scale,
        mlp_scale=None if is_folded else norms[1].scale,
        query_key_scale=query_key_scale,
        query_key_floor=query_key_floor,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=dim,
        scale=scale,
        activation=activation,
    )


def before_attention(layer: LayerWeights, hidden: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries [1, num_heads, total_rows, head_dim], keys and values [1, num_kv_heads, total_rows, head_dim].

    hidden: [total_rows, hidden]; rotation: [total_rows, 1, head_dim / 2], see `rotary.rotation_of`
    """
    num_rows, num_rotated = hidden.shape[0], layer.num_heads + layer.num_kv_heads
    joined = product(layer.joined, normed(hidden, layer.attention_floor, layer.attention_scale))
    rotated = joined.view(num_rows, -1, layer.head_dim).narrow(1, 0, num_rotated)
    query_key_scale = layer.query_key_scale
    if query_key_scale is not None:
        rotated.div_(length_of(rotated, layer.query_key_floor)).mul_(query_key_scale)
    torch.view_as_complex(rotated.view(num_rows, num_rotated, -1, 2)).mul_(rotation)
    by_attention_head = joined.view(1, num_rows, -1, layer.head_dim).transpose(1, 2)
    query, key, value = by_attention_head.split_with_sizes(
        [layer.num_heads, layer.num_kv_heads, layer.num_kv_heads], dim=1
    )
    return query, key, value


def after_attention(layer: LayerWeights, hidden: Tensor, attended: Tensor) -> Tensor:
    """Return the layer's output, [total_rows, hidden]. attended: [1, num_heads, total_rows, head_dim]"""
    hidden = product_onto(layer.output, hidden, attended.transpose(1, 2).reshape(hidden.shape[0], -1))
    gate, up = product(layer.gate_up, normed(hidden, layer.mlp_floor, layer.mlp_scale)).chunk(2, dim=-1)
    return product_onto(layer.down, hidden, activated(gate, layer.activation).mul_(up))


def activated(states: Tensor, name: str) -> Tensor:
    """Apply the activation of that name, one of ACTIVATIONS."""
    if name == "silu":
        return silu(states)
    # contiguous: torch takes another function for rows that are not, and one row of a chunk always is
    return gelu(states.contiguous(), approximate="tanh" if name == "gelu:tanh" else "none")


class RotationCache:
    """Computes a pass's `rotary.rotation_of` once for all lean layers of a model."""

    def __init__(self) -> None:
        self._newest: tuple[Tensor, Tensor] | None = None

    def of(self, embeddings: tuple[Tensor, Tensor]) -> Tensor:
        """Return the rotation of a pass's embeddings: transformers hands the same tensors to every layer of a pass."""
        if self._newest is None or self._newest[0] is not embeddings[0]:
            self._newest = embeddings[0], rotation_of(embeddings)
        return self._newest[1]


class LeanLayer(nn.Module):
    """A lean layer that transformers calls as its own decoder layer; it chooses the parameter names."""

    def __init__(self, weights: LayerWeights, index: int, window: int | None, rotations: RotationCache) -> None:
        """index, window: see `LayerShape`"""
        super().__init__()
        self.weights = weights
        num_sharing = weights.num_heads // weights.num_kv_heads
        self.shape = LayerShape(index, weights.num_kv_heads, weights.head_dim, window, num_sharing)
        self._rotations = rotations

    def forward(
        self,
        hidden_states: Tensor,
        *,
        position_embeddings: tuple[Tensor, Tensor],
        packed: PassAttention,
        **_: object,
    ) -> Tensor:
        """Compute the layer. hidden_states: [1, total_rows, hidden]; position_embeddings: see `rotary.rotation_of`"""
        return self.step(hidden_states[0], self._rotations.of(position_embeddings), packed).unsqueeze(0)

    def step(self, hidden: Tensor, rotation: Tensor, packed: PassAttention) -> Tensor:
        """Compute the layer on its own shapes. hidden: [total_rows, hidden]; rotation: [total_rows, 1, head_dim / 2]"""
        query, key, value = before_attention(self.weights, hidden, rotation)
        attended = packed.attend(self.shape.index, query, key, value, self.weights.scale, self.shape.window)
        return after_attention(self.weights, hidden, attended)


def normed(hidden: Tensor, floor: Tensor, scale: Tensor | None) -> Tensor:
    """Divide rows by their lengths, and multiply with the norm's scale unless the matrix behind holds it."""
    rows = hidden / length_of(hidden, floor)
    return rows if scale is None else rows.mul_(scale)


def length_of(states: Tensor, floor: Tensor) -> Tensor:
    """Return sqrt(|x|^2 + size * eps), [..., size] -> [..., 1]; x divided by it and times sqrt(size) is the normed x.

    torch's `rms_norm` is several operators on the CPU and takes three times as long.
    """
    return torch.hypot(torch.linalg.vector_norm(states, dim=[-1], keepdim=True), floor)


def joined_matrix(
    matrices: Sequence[tuple[Tensor, Tensor | None]], scale: Tensor | None, quantization: Quantization
) -> Matrix:
    """Join (weight, bias) pairs into one product. scale: what its inputs still have to be multiplied with"""
    weight = torch.cat([weight if scale is None else weight * scale for weight, _ in matrices])
    biases = [weight.new_zeros(len(own)) if bias is None else bias for own, bias in matrices]
    bias = torch.cat(biases) if any(bias is not None for _, bias in matrices) else None
    return matrix_of(weight, bias, quantization)


def paired(linear: nn.Linear, head_dim: int) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias with each attention head's features in the order of `_pairs`."""
    order = _pairs(head_dim)
    weight = linear.weight.unflatten(0, (-1, head_dim))[:, order].flatten(0, 1)
    return weight, None if linear.bias is None else linear.bias.unflatten(0, (-1, head_dim))[:, order].flatten()


def _pairs(head_dim: int) -> Tensor:
    """Return 0, half, 1, half + 1, ...: the features of a rotated pair side by side."""
    return torch.arange(head_dim).view(2, -1).t().flatten()
