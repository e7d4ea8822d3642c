"""The only layer of an EAGLE-3 head, in two halves around its attention."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hedgespec.models.eagle3.config import Eagle3Config
from hedgespec.models.rotary import Rotary

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Takes query [num_tokens, num_attention_heads, head_dim], key and value [num_tokens, num_kv_heads, head_dim] (query and key
rotated), adds key and value to its memory, scales scores by head_dim ** -0.5 and returns
[num_tokens, num_attention_heads * head_dim]."""

BeforeAttention = tuple[Tensor, Tensor, Tensor, Tensor]
"""Query, key and value, shaped as `Attend` takes them, and the residual [num_tokens, hidden]."""


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, states: Tensor) -> Tensor:
        wide = states.float()
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * normed.to(states.dtype)


class Midlayer(nn.Module):
    """A decoder layer that reads a token's embedding beside the hidden state; `num_tokens` are any leading dimensions."""

    def __init__(self, config: Eagle3Config) -> None:
        super().__init__()
        self.norm_before_residual = config.norm_before_residual
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.hidden_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = _Projections(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = _MLP(config)

    def forward(self, token_embeds: Tensor, hidden: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """Compute the next state, see `Eagle3Head.step`."""
        query, key, value, residual = self.before_attention(token_embeds, hidden, positions)
        return self.after_attention(residual, attend(query, key, value))

    def before_attention(self, token_embeds: Tensor, hidden: Tensor, positions: Tensor) -> BeforeAttention:
        """Compute what the attention takes. token_embeds, hidden: [num_tokens, hidden]; positions: [num_tokens]"""
        normed = self.hidden_norm(hidden)
        residual = normed if self.norm_before_residual else hidden
        return *self.self_attn(torch.cat((self.input_layernorm(token_embeds), normed), dim=-1), positions), residual

    def after_attention(self, residual: Tensor, attended: Tensor) -> Tensor:
        """Return the next state, [num_tokens, hidden]. attended: [num_tokens, num_attention_heads * head_dim]"""
        hidden = residual + self.self_attn.o_proj(attended)
        out: Tensor = hidden + self.mlp(self.post_attention_layernorm(hidden))
        return out


class _Projections(nn.Module):
    """The matrices around the attention, under their published names."""

    def __init__(self, config: Eagle3Config) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.q_proj = nn.Linear(2 * config.hidden_size, config.num_attention_heads * config.head_dim, bias=False)
        self.k_proj = nn.Linear(2 * config.hidden_size, config.num_kv_heads * config.head_dim, bias=False)
        self.v_proj = nn.Linear(2 * config.hidden_size, config.num_kv_heads * config.head_dim, bias=False)
        self.o_proj = nn.Linear(config.num_attention_heads * config.head_dim, config.hidden_size, bias=False)
        self.rotary = Rotary(config.rope, config.head_dim)

    def forward(self, joined: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value. joined: [num_tokens, 2 * hidden]"""
        query, key, value = (
            projection(joined).unflatten(-1, (-1, self.head_dim))
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        return *self.rotary(query, key, positions), value


class _MLP(nn.Module):
    def __init__(self, config: Eagle3Config) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(states)) * self.up_proj(states))
        return out
