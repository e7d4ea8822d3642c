"""Tiny GGUF files, written with the `gguf` package from the random models of `tests.model_folders`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from transformers import AutoModelForCausalLM, PreTrainedModel

from tests.model_folders import NUM_LAYERS, VOCAB_SIZE

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = ("t h", "Ġ t", "Ġt h", "i n", "e r", "Ġ Ġ", "1 2")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{{ '<|im_start|>assistant\n' }}"
)


def byte_tokens() -> list[str]:
    """As many tokens as the random models have: special ones, letters and digits, the merges, fillers."""
    letters = [chr(c) for c in (*range(ord("a"), ord("z") + 1), *range(ord("A"), ord("M") + 1), *range(48, 58))]
    tokens = [*SPECIAL, "Ġ", "Ċ", *letters, ".", ",", "?", *(merge.replace(" ", "") for merge in MERGES)]
    return [*tokens, *(f"<unused{i}>" for i in range(VOCAB_SIZE - len(tokens)))]


def write_gguf(
    folder: Path,
    path: Path,
    kind: Kind = Kind.F32,
    metadata: Mapping[str, Any] | None = None,
    tensors: Callable[[str, np.ndarray], np.ndarray | None] = lambda name, values: values,
    architecture: str | None = None,
    rope_factors: np.ndarray | None = None,
) -> PreTrainedModel:
    """Write the model of `folder` as GGUF; return it with the values that the file stands for.

    metadata: keys that replace the usual ones, None leaves one out. tensors: changes values, or leaves one out with None
    """
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    architecture = architecture or {"mistral": "llama", "gemma3_text": "gemma3"}.get(
        model.config.model_type, model.config.model_type
    )
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in {**shape_keys(model.config, architecture), **tokenizer_keys(), **(metadata or {})}.items():
        if value is not None:
            _add(writer, key, value)
    if rope_factors is not None:
        writer.add_tensor("rope_freqs.weight", rope_factors.astype(np.float32))
    number = next(n for n, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(number, NUM_LAYERS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            place = names.get_name(name, try_suffixes=(".weight", ".bias"))
            assert place is not None, name
            exact = parameter.dim() == 1
            values = parameter.numpy()
            if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
                heads = model.config.num_attention_heads if "q_proj" in name else model.config.num_key_value_heads
                values = paired_rows(values, heads)
            if architecture.startswith("gemma") and "norm" in name:
                values = values + 1
            values = tensors(place, values)
            if values is None:
                continue
            own_kind = Kind.F32 if exact else kind
            writer.add_tensor(place, gguf.quantize(values, own_kind), raw_dtype=own_kind)
            if not exact:
                quantized = gguf.quantize(parameter.numpy(), own_kind)
                parameter.copy_(torch.from_numpy(gguf.dequantize(quantized, own_kind).astype(np.float32)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def paired_rows(weight: np.ndarray, num_heads: int) -> np.ndarray:
    """Reorder rotary rows as llama.cpp stores them for Llama: halves become pairs."""
    return weight.reshape(num_heads, 2, -1, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape).copy()


def shape_keys(config: Any, architecture: str) -> dict[str, Any]:
    theta = config.rope_parameters.get("rope_theta") or config.rope_parameters["full_attention"]["rope_theta"]
    keys = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": config.head_dim if architecture != "qwen2" else None,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "attention.sliding_window": config.sliding_window if architecture == "gemma3" else None,
        "rope.freq_base": float(theta),
    }
    return {f"{architecture}.{key}": value for key, value in keys.items()}


def tokenizer_keys() -> dict[str, Any]:
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": byte_tokens(),
        "tokenizer.ggml.token_type": [3] * len(SPECIAL) + [1] * (VOCAB_SIZE - len(SPECIAL)),
        "tokenizer.ggml.merges": list(MERGES),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": TEMPLATE,
    }


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)
