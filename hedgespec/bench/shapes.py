"""Models of published shapes with random weights, for benchmarks: speed does not depend on the weights' values."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, Qwen3Config

from hedgespec.config import Device
from hedgespec.errors import ConfigError
from hedgespec.models.causal_lm.network import attention_implementation
from hedgespec.models.causal_lm.packed import PackedCausalLM
from hedgespec.models.eagle3.config import Eagle3Config

_KEYS = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
         "head_dim", "max_position_embeddings", "tie_word_embeddings")  # fmt: skip

_SHAPES: dict[str, tuple[type[PreTrainedConfig], tuple[int, ...]]] = {
    "tiny": (LlamaConfig, (4096, 256, 768, 12, 4, 2, 64, 4096, True)),
    "llama-3.2-1b": (LlamaConfig, (128256, 2048, 8192, 16, 32, 8, 64, 131072, True)),
    "llama-3.1-8b": (LlamaConfig, (128256, 4096, 14336, 32, 32, 8, 128, 131072, False)),
    "qwen3-8b": (Qwen3Config, (151936, 4096, 12288, 36, 32, 8, 128, 40960, False)),
}
"""name -> the class of its config and the values of _KEYS"""

_DRAFTED_IDS = 32_000
"""The draft vocabulary's size in published heads."""

_TINY_HEAD = {"intermediate_size": 256, "draft_vocab_size": 1024}
"""Config keys in which the embedded zoo's heads are smaller than their target's layers."""


def head_config(shape: str) -> Eagle3Config:
    """Return the config of an EAGLE-3 head as wide as a layer of that shape. Raises ConfigError for an unknown shape."""
    own = _TINY_HEAD if shape == "tiny" else {"draft_vocab_size": _DRAFTED_IDS}
    return Eagle3Config.from_published({**_config(shape).to_dict(), "num_hidden_layers": 1, **own})


def _config(shape: str) -> PreTrainedConfig:
    if shape not in _SHAPES:
        raise ConfigError(f"No shape named {shape!r}. Known: {list(_SHAPES)}.")
    kind, values = _SHAPES[shape]
    return kind(**dict(zip(_KEYS, values, strict=True)))


def random_causal_lm(shape: str, device: Device, seed: int = 0) -> PackedCausalLM:
    """Make a runner of that shape: float32 on CPU, bfloat16 on CUDA. Raises ConfigError for an unknown shape."""
    torch.manual_seed(seed)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    attention = attention_implementation()
    with torch.device(device):
        model: Any = AutoModelForCausalLM.from_config(_config(shape), dtype=dtype, attn_implementation=attention)
    return PackedCausalLM(model.eval().requires_grad_(False), f"random-{shape}-{seed}", torch.device(device))
