"""Models of published shapes with random weights, for benchmarks: speed does not depend on the weights' values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, Qwen3Config

from hedgespec.config import Device
from hedgespec.errors import ConfigError
from hedgespec.models.causal_lm.network import attention_implementation
from hedgespec.models.causal_lm.packed import PackedCausalLM
from hedgespec.models.eagle3.config import Eagle3Config

_SHAPES: dict[str, Callable[[], PreTrainedConfig]] = {
    "tiny": lambda: LlamaConfig(
        vocab_size=4096,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=12,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
    ),
    "llama-3.2-1b": lambda: LlamaConfig(
        vocab_size=128256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=131072,
        tie_word_embeddings=True,
    ),
    "llama-3.1-8b": lambda: LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=131072,
    ),
    "qwen3-8b": lambda: Qwen3Config(
        vocab_size=151936,
        hidden_size=4096,
        intermediate_size=12288,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40960,
    ),
}

_DRAFTED_IDS = 32_000
"""The draft vocabulary's size in published heads."""

_TINY_HEAD = {"intermediate_size": 256, "draft_vocab_size": 1024}
"""Config keys in which the embedded zoo's heads are smaller than their target's layers."""

SHAPES: tuple[str, ...] = tuple(_SHAPES)


def head_config(shape: str) -> Eagle3Config:
    """Return the config of an EAGLE-3 head as wide as one layer of that shape's target. Raises ConfigError for an unknown
    shape."""
    _check(shape)
    own = _TINY_HEAD if shape == "tiny" else {"draft_vocab_size": _DRAFTED_IDS}
    return Eagle3Config.from_published({**_SHAPES[shape]().to_dict(), "num_hidden_layers": 1, **own})


def _check(shape: str) -> None:
    if shape not in _SHAPES:
        raise ConfigError(f"No shape named {shape!r}. Known: {list(SHAPES)}.")


def random_causal_lm(shape: str, device: Device, seed: int = 0) -> PackedCausalLM:
    """Make a runner of that shape: float32 on CPU, bfloat16 on CUDA. Raises ConfigError for an unknown shape."""
    _check(shape)
    torch.manual_seed(seed)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    attention = attention_implementation()
    with torch.device(device):
        model: Any = AutoModelForCausalLM.from_config(_SHAPES[shape](), dtype=dtype, attn_implementation=attention)
    return PackedCausalLM(model.eval().requires_grad_(False), f"random-{shape}-{seed}", torch.device(device))
