"""Tiny random model folders, built in a moment: language models of several makers, and EAGLE-3 heads for them.

They are real safetensors checkpoints, so what loads them is what loads an 8B model. Weights are large enough for sharp,
varied distributions: near-ties would make exact comparisons meaningless.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hedgespec.models.eagle3.config import Eagle3Config
from hedgespec.models.eagle3.head import Eagle3Head, save_eagle3
from hedgespec.models.rotary import RopeConfig

VOCAB_SIZE = 96
HIDDEN_SIZE = 32
NUM_LAYERS = 6
MAX_POSITIONS = 512

_SHAPE = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": HIDDEN_SIZE,
    "intermediate_size": 64,
    "num_hidden_layers": NUM_LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": MAX_POSITIONS,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


def make_llama(folder: Path, seed: int = 0, **changes: object) -> Path:
    """A random Llama in `folder`; changes are config keys."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return _save(LlamaForCausalLM(LlamaConfig(**{**_SHAPE, **changes})), folder, seed)


def make_qwen3(folder: Path, seed: int = 0, **changes: object) -> Path:
    """A random Qwen3 (with its per-head norms) in `folder`."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return _save(Qwen3ForCausalLM(Qwen3Config(**{**_SHAPE, **changes})), folder, seed)


def make_qwen2(folder: Path, seed: int = 0, **changes: object) -> Path:
    """A random Qwen2 (with its biases) in `folder`."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return _save(Qwen2ForCausalLM(Qwen2Config(**{**_SHAPE, **changes})), folder, seed)


def make_gemma(folder: Path, seed: int = 0, **changes: object) -> Path:
    """A random Gemma (norms of 1 + weight, scaled embeddings) in `folder`."""
    from transformers import GemmaConfig, GemmaForCausalLM

    return _save(GemmaForCausalLM(GemmaConfig(**{**_SHAPE, **changes})), folder, seed)


def make_gemma3(folder: Path, seed: int = 0, **changes: object) -> Path:
    """A random Gemma 3 (more norms, most layers with a window and rotary embeddings of their own) in `folder`."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    own = {"sliding_window": 8, "query_pre_attn_scalar": 8}
    return _save(Gemma3ForCausalLM(Gemma3TextConfig(**{**_SHAPE, **own, **changes})), folder, seed)


def make_granite(folder: Path, seed: int = 0, **changes: object) -> Path:
    """A random Granite in `folder`: built like a Llama, with factors between its parts."""
    from transformers import GraniteConfig, GraniteForCausalLM

    factors = {"residual_multiplier": 0.5, "embedding_multiplier": 2.0, "logits_scaling": 3.0}
    return _save(GraniteForCausalLM(GraniteConfig(**{**_SHAPE, **factors, **changes})), folder, seed)


def make_mistral(folder: Path, seed: int = 0, sliding_window: int = 8) -> Path:
    """A random Mistral whose layers see `sliding_window` positions."""
    from transformers import MistralConfig, MistralForCausalLM

    return _save(MistralForCausalLM(MistralConfig(**{**_SHAPE, "sliding_window": sliding_window})), folder, seed)


MAKERS: dict[str, Callable[..., Path]] = {
    "gemma": make_gemma,
    "granite": make_granite,
    "llama": make_llama,
    "llama-biased": partial(make_llama, attention_bias=True, mlp_bias=True),
    "llama-wide-gelu": partial(make_llama, intermediate_size=48, hidden_act="gelu"),
    "mistral": make_mistral,
    "qwen2": make_qwen2,
    "qwen3": make_qwen3,
}
"""Every kind of language model that the tests know."""


def _save(model: nn.Module, folder: Path, seed: int) -> Path:
    from transformers.utils import logging

    logging.disable_progress_bar()
    randomise(model, seed)
    model.save_pretrained(folder)
    return folder


@torch.no_grad()
def randomise(model: nn.Module, seed: int) -> None:
    """Weights that depend on name and seed alone, so that golden files hold for every version of the libraries."""
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
            parameter.copy_(torch.from_numpy(0.3 * rng.standard_normal(tuple(parameter.shape), np.float32)))


def make_eagle3(folder: Path, seed: int = 0, draft_vocab_size: int = 64) -> Path:
    """A random EAGLE-3 head for the models above; its draft vocabulary is a random subset of theirs."""
    head = Eagle3Head(
        Eagle3Config(
            hidden_size=HIDDEN_SIZE,
            target_hidden_size=HIDDEN_SIZE,
            intermediate_size=64,
            num_attention_heads=4,
            num_kv_heads=2,
            head_dim=8,
            vocab_size=VOCAB_SIZE,
            draft_vocab_size=draft_vocab_size,
            max_positions=MAX_POSITIONS,
            rms_norm_eps=1e-6,
            rope=RopeConfig(),
        )
    )
    randomise(head, seed)
    drafted = np.random.default_rng(seed).permutation(VOCAB_SIZE)[:draft_vocab_size]
    head.draft_to_target = torch.from_numpy(np.sort(drafted))
    save_eagle3(head, folder, dtype=torch.float32)
    return folder
