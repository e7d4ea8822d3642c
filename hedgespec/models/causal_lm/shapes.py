"""Models of published shapes with random weights: speed does not depend on what the weights are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, Qwen3Config
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from hedgespec.config import Device
from hedgespec.errors import ConfigError
from hedgespec.models.causal_lm.packed import ATTENTION_NAME, PackedCausalLM, packed_attention
from hedgespec.models.eagle3.config import Eagle3Config
from hedgespec.models.rotary import RopeConfig

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

_HEADS: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 256, "intermediate_size": 256, "num_heads": 4, "num_kv_heads": 2, "head_dim": 64}
    | {"vocab_size": 4096, "draft_vocab_size": 1024, "max_positions": 4096},
    "llama-3.2-1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_heads": 32, "num_kv_heads": 8, "head_dim": 64}
    | {"vocab_size": 128256, "draft_vocab_size": 32000, "max_positions": 8192},
    "llama-3.1-8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_heads": 32,
        "num_kv_heads": 8,
        "head_dim": 128,
    }
    | {"vocab_size": 128256, "draft_vocab_size": 32000, "max_positions": 8192},
    "qwen3-8b": {"hidden_size": 4096, "intermediate_size": 12288, "num_heads": 32, "num_kv_heads": 8, "head_dim": 128}
    | {"vocab_size": 151936, "draft_vocab_size": 32000, "max_positions": 8192},
}

SHAPES: tuple[str, ...] = tuple(_SHAPES)


def head_config(shape: str) -> Eagle3Config:
    """The EAGLE-3 head of a published size for that shape's target. Raises ConfigError for an unknown shape."""
    if shape not in _HEADS:
        raise ConfigError(f"No shape named {shape!r}. Known: {list(_HEADS)}.")
    sizes = _HEADS[shape]
    return Eagle3Config(
        **sizes, target_hidden_size=sizes["hidden_size"], rms_norm_eps=1e-5, rope=RopeConfig(theta=500000.0)
    )


def random_causal_lm(shape: str, device: Device, seed: int = 0) -> PackedCausalLM:
    """A packed runner of that shape: float32 on CPU, bfloat16 on CUDA. Raises ConfigError for an unknown shape."""
    if shape not in _SHAPES:
        raise ConfigError(f"No shape named {shape!r}. Known: {list(SHAPES)}.")
    ALL_ATTENTION_FUNCTIONS.register(ATTENTION_NAME, packed_attention)
    torch.manual_seed(seed)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    with torch.device(device):
        model: Any = AutoModelForCausalLM.from_config(_SHAPES[shape](), dtype=dtype, attn_implementation=ATTENTION_NAME)
    return PackedCausalLM(model.eval().requires_grad_(False), f"random-{shape}-{seed}", torch.device(device))
