"""Rotary position embedding in plain torch: a process with EAGLE-3 heads alone imports torch, not transformers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hedgespec.errors import ModelFolderError

FIRST_POSITIONS = 1024
"""Positions that a table of rotations starts with."""


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Parameters of a rotary embedding.

    kind: `default`, `linear` (positions divided by factor) or `llama3` (low frequencies divided, smoothly)
    """

    theta: float = 10000.0
    kind: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192


def rope_config(config: dict[str, Any]) -> RopeConfig:
    """Read `rope_theta` and `rope_scaling`, or transformers 5's `rope_parameters`, from a config.json."""
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in ("default", "linear", "llama3"):
        raise ModelFolderError(f"Unsupported rope type {kind!r}: supported are default, linear and llama3.")
    return RopeConfig(
        theta=float(scaling.get("rope_theta", config.get("rope_theta", 10000.0))),
        kind=kind,
        factor=float(scaling.get("factor", 1.0)),
        low_freq_factor=float(scaling.get("low_freq_factor", 1.0)),
        high_freq_factor=float(scaling.get("high_freq_factor", 4.0)),
        original_max_positions=int(scaling.get("original_max_position_embeddings", 8192)),
    )


class Rotary(nn.Module):
    """Rotates queries and keys by their positions: feature i and feature i + head_dim / 2 form a pair, as in Llama."""

    def __init__(self, config: RopeConfig, head_dim: int) -> None:
        super().__init__()
        self.inverse_frequency: Tensor
        self.register_buffer("inverse_frequency", _inverse_frequency(config, head_dim), persistent=False)

    def forward(self, query: Tensor, key: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Rotate query [..., num_heads, head_dim] and key [..., num_kv_heads, head_dim] by positions [...]."""
        cosine, sine = (values[..., None, :] for values in self.embeddings(positions))
        return _rotate(query, cosine, sine), _rotate(key, cosine, sine)

    def embeddings(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and sines of positions [...], each [..., head_dim] with both halves alike."""
        angles = positions[..., None].float() * self.inverse_frequency
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos(), angles.sin()


class RotationTable:
    """Rotary embeddings of positions from 0 on, computed once; the table grows with the longest text.

    table:      [num_positions, 1, head_dim / 2], see `rotation_of`
    embeddings: positions [1, num_positions] -> cosines and sines, [1, num_positions, head_dim]
    device:     where the positions are
    """

    def __init__(
        self, embeddings: Callable[[Tensor], tuple[Tensor, Tensor]], device: torch.device | str = "cpu"
    ) -> None:
        self._embeddings = embeddings
        self._device = device
        self.table = self._below(FIRST_POSITIONS)
        self._outgrown: list[Tensor] = []  # a CUDA graph goes on reading the table that it was captured with

    def require(self, end: int) -> None:
        """Make room for positions below `end`."""
        if end > len(self.table):
            self._outgrown.append(self.table)
            self.table = self._below(max(end, 2 * len(self.table)))

    def at(self, positions: Tensor) -> Tensor:
        """Look up positions [total_rows]: [total_rows, 1, head_dim / 2]. Call `require` with their end before."""
        return self.table[positions]

    def _below(self, end: int) -> Tensor:
        return rotation_of(self._embeddings(torch.arange(end, device=self._device).unsqueeze(0)))


def rotation_of(embeddings: tuple[Tensor, Tensor]) -> Tensor:
    """Turn cosines and sines [1, total_rows, head_dim], both halves alike, into complex [total_rows, 1, head_dim / 2]."""
    cosine, sine = embeddings
    half = cosine.shape[-1] // 2
    return torch.complex(cosine[0, :, None, :half].contiguous(), sine[0, :, None, :half].contiguous())


def _rotate(states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = states.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (states * cosine.to(states.dtype)) + (turned * sine.to(states.dtype))


def _inverse_frequency(config: RopeConfig, head_dim: int) -> Tensor:
    frequency = 1.0 / config.theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu") / head_dim)
    if config.kind == "default":
        return frequency
    if config.kind == "linear":
        return frequency / config.factor
    wavelength = 2 * math.pi / frequency
    ratio = config.original_max_positions / wavelength
    smooth = (ratio - config.low_freq_factor) / (config.high_freq_factor - config.low_freq_factor)
    smooth = smooth.clamp(0.0, 1.0)
    return (1 - smooth) * frequency / config.factor + smooth * frequency
