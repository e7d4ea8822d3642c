"""A tiny target with random weights, a tokenizer and a chat template."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from hedgespec.zoo.tokenizer import save_tokenizer, train_tokenizer

TEXT = "the quick brown fox jumps over the lazy dog, and then it sleeps. " * 40
VOCAB_SIZE = 300


def save_chat_target(folder: Path) -> Path:
    """Write the target's folder and return it."""
    folder.mkdir(exist_ok=True)
    save_tokenizer(train_tokenizer([TEXT], VOCAB_SIZE), folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE, hidden_size=32, intermediate_size=48, num_hidden_layers=5, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, eos_token_id=1, bos_token_id=0, pad_token_id=2,
        initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
