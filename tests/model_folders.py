"""Tiny random model folders, built in a moment: a Llama, a Qwen3, and EAGLE-3 heads for them.

They are real safetensors checkpoints, so what loads them is what loads an 8B model. Weights are large enough for sharp,
varied laws: near-ties would make exact comparisons meaningless.
"""

from __future__ import annotations

from pathlib import Path

import torch

from hedgespec.models.eagle3 import Eagle3Config, Eagle3Head, save_eagle3
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
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


def make_llama(folder: Path, seed: int = 0, **changes: object) -> Path:
    """A random Llama in `folder`; changes are config keys."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    LlamaForCausalLM(LlamaConfig(**{**_SHAPE, **changes})).save_pretrained(folder)
    return folder


def make_qwen3(folder: Path, seed: int = 0, **changes: object) -> Path:
    """A random Qwen3 (with its per-head norms) in `folder`."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    Qwen3ForCausalLM(Qwen3Config(**{**_SHAPE, **changes})).save_pretrained(folder)
    return folder


def make_mistral(folder: Path, seed: int = 0, sliding_window: int = 8) -> Path:
    """A random Mistral whose layers see `sliding_window` positions."""
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(seed)
    MistralForCausalLM(MistralConfig(**{**_SHAPE, "sliding_window": sliding_window})).save_pretrained(folder)
    return folder


def make_eagle3(folder: Path, seed: int = 0, draft_vocab_size: int = 64) -> Path:
    """A random EAGLE-3 head for the models above; its draft vocabulary is a random subset of theirs."""
    torch.manual_seed(seed)
    head = Eagle3Head(
        Eagle3Config(
            hidden_size=HIDDEN_SIZE,
            target_hidden_size=HIDDEN_SIZE,
            intermediate_size=64,
            num_heads=4,
            num_kv_heads=2,
            head_dim=8,
            vocab_size=VOCAB_SIZE,
            draft_vocab_size=draft_vocab_size,
            max_positions=MAX_POSITIONS,
            rms_norm_eps=1e-6,
            rope=RopeConfig(),
        )
    )
    for name, parameter in head.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    head.draft_to_target = torch.randperm(VOCAB_SIZE)[:draft_vocab_size].sort().values
    save_eagle3(head, folder, dtype=torch.float32)
    return folder
