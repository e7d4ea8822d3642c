"""Each GGUF architecture that can be served: its config.json for transformers and the place of every tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hedgespec.models.gguf.header import GgufHeader
from hedgespec.models.gguf.rope_factors import ROPE_FACTORS, llama3_rope

Places = dict[str, tuple[str, tuple[str, ...]]]
"""Name in the file -> (name in the model, dimensions). Both names without `.weight`."""

_OUTER: Places = {
    "token_embd": ("model.embed_tokens", ("vocab", "hidden")),
    "output_norm": ("model.norm", ("hidden",)),
    "output": ("lm_head", ("vocab", "hidden")),
}
_LAYER: Places = {
    "attn_norm": ("input_layernorm", ("hidden",)),
    "attn_q": ("self_attn.q_proj", ("query", "hidden")),
    "attn_k": ("self_attn.k_proj", ("key", "hidden")),
    "attn_v": ("self_attn.v_proj", ("key", "hidden")),
    "attn_output": ("self_attn.o_proj", ("hidden", "query")),
    "ffn_norm": ("post_attention_layernorm", ("hidden",)),
    "ffn_gate": ("mlp.gate_proj", ("inner", "hidden")),
    "ffn_up": ("mlp.up_proj", ("inner", "hidden")),
    "ffn_down": ("mlp.down_proj", ("hidden", "inner")),
}
_HEAD_NORMS: Places = {
    "attn_q_norm": ("self_attn.q_norm", ("head",)),
    "attn_k_norm": ("self_attn.k_norm", ("head",)),
}
_GEMMA3_NORMS: Places = {
    "post_attention_norm": ("post_attention_layernorm", ("hidden",)),
    "ffn_norm": ("pre_feedforward_layernorm", ("hidden",)),
    "post_ffw_norm": ("post_feedforward_layernorm", ("hidden",)),
}
_KEYS = frozenset(
    {
        "context_length",
        "block_count",
        "embedding_length",
        "feed_forward_length",
        "vocab_size",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.value_length",
        "attention.layer_norm_rms_epsilon",
        "rope.dimension_count",
        "rope.freq_base",
        "rope.scaling.type",
    }
)
"""What may stand under an architecture's name; any other key that is not 0 or empty would change the model."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """How the files of one architecture differ from a transformers model.

    layer: places of a layer's tensors; biased: those that have a bias as well
    swaps_rotary_rows: rows of queries and keys stand in pairs instead of halves
    norm_offset: what the file adds to the weights of norms
    """

    model_type: str
    class_name: str
    layer: Places = field(default_factory=lambda: _LAYER)
    biased: tuple[str, ...] = ()
    swaps_rotary_rows: bool = False
    norm_offset: float = 0.0
    has_windows: bool = False


ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": Architecture("llama", "LlamaForCausalLM", swaps_rotary_rows=True),  # Mistral's files say llama, too
    "qwen2": Architecture("qwen2", "Qwen2ForCausalLM", biased=("attn_q", "attn_k", "attn_v")),
    "qwen3": Architecture("qwen3", "Qwen3ForCausalLM", _LAYER | _HEAD_NORMS),
    "gemma": Architecture("gemma", "GemmaForCausalLM", norm_offset=1.0),
    "gemma3": Architecture(
        "gemma3_text",
        "Gemma3ForCausalLM",
        _LAYER | _HEAD_NORMS | _GEMMA3_NORMS,
        norm_offset=1.0,
        has_windows=True,
    ),
}


def architecture_of(header: GgufHeader) -> Architecture:
    """Return the file's architecture. Raises ModelFolderError by name for others and for what they do not support."""
    name = header.get("general.architecture", str)
    if name not in ARCHITECTURES:
        raise header.refusal(f"architecture {name!r} is not supported, only {', '.join(ARCHITECTURES)}")
    architecture = ARCHITECTURES[name]
    known = _KEYS | ({"attention.sliding_window"} if architecture.has_windows else set())
    for key, value in header.metadata.items():
        if key.startswith(f"{name}.") and key.removeprefix(f"{name}.") not in known and value:
            raise header.refusal(f"{key} = {value!r} is not supported")
    if (scaling := header.metadata.get(f"{name}.rope.scaling.type", "none")) != "none":
        raise header.refusal(f"{name}.rope.scaling.type = {scaling!r} is not supported")
    return architecture


def model_config(header: GgufHeader, architecture: Architecture) -> dict[str, Any]:
    """Return config.json. Raises ModelFolderError for keys that are missing or contradict each other."""

    def whole(key: str, default: int | None = None) -> int:
        value = header.get(f"{header.metadata['general.architecture']}.{key}", int, default)
        if not 0 < value < 1 << 31:
            raise header.refusal(f"{key} = {value} is out of range")
        return value

    def real(key: str, default: float | None = None) -> float:
        return header.get(f"{header.metadata['general.architecture']}.{key}", float, default)

    num_heads, hidden_size = whole("attention.head_count"), whole("embedding_length")
    head_dim = whole("attention.key_length", whole("rope.dimension_count", hidden_size // num_heads))
    if whole("rope.dimension_count", head_dim) != head_dim or whole("attention.value_length", head_dim) != head_dim:
        raise header.refusal("keys, values and rotary embedding of different widths are not supported")
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": real("rope.freq_base", 1e4)}
    if ROPE_FACTORS in header.tensors:
        rope = llama3_rope(header, rope["rope_theta"], head_dim)
    config: dict[str, Any] = {
        "model_type": architecture.model_type,
        "architectures": [architecture.class_name],
        "dtype": "float32",
        "vocab_size": len(header.strings("tokenizer.ggml.tokens")),
        "hidden_size": hidden_size,
        "intermediate_size": whole("feed_forward_length"),
        "num_hidden_layers": whole("block_count"),
        "num_attention_heads": num_heads,
        "num_key_value_heads": whole("attention.head_count_kv", num_heads),
        "head_dim": head_dim,
        "max_position_embeddings": whole("context_length"),
        "rms_norm_eps": real("attention.layer_norm_rms_epsilon"),
        "rope_parameters": rope,
        "tie_word_embeddings": "output.weight" not in header.tensors,
        **{f"{name}_token_id": header.metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos")},
    }
    if architecture.has_windows:  # Gemma 3: the windowed layers turn at 10,000, and the 27B model scales otherwise
        local_rope = {"rope_type": "default", "rope_theta": 1e4}
        config["rope_parameters"] = {"full_attention": rope, "sliding_attention": local_rope}
        config["sliding_window"] = whole("attention.sliding_window")
        config["query_pre_attn_scalar"] = hidden_size // num_heads if whole("block_count") == 62 else head_dim
    return config


def tensor_names(header: GgufHeader, architecture: Architecture, config: Mapping[str, Any]) -> dict[str, str]:
    """Map every tensor of the file to its name in the model.

    Raises ModelFolderError by name for tensors that are missing, of another shape, or unknown.
    """
    head_dim = config["head_dim"]
    sizes = {
        "vocab": config["vocab_size"],
        "hidden": config["hidden_size"],
        "inner": config["intermediate_size"],
        "head": head_dim,
        "query": head_dim * config["num_attention_heads"],
        "key": head_dim * config["num_key_value_heads"],
    }
    places = {f"{name}.weight": (f"{place}.weight", dims) for name, (place, dims) in _OUTER.items()}
    if config["tie_word_embeddings"]:
        del places["output.weight"]
    for layer in range(min(config["num_hidden_layers"], len(header.tensors))):
        for name, (place, dims) in architecture.layer.items():
            source, destination = f"blk.{layer}.{name}", f"model.layers.{layer}.{place}"
            places[f"{source}.weight"] = f"{destination}.weight", dims
            if name in architecture.biased:
                places[f"{source}.bias"] = f"{destination}.bias", dims[:1]
    for name, (_, dims) in places.items():
        expected = tuple(sizes[dim] for dim in dims)
        if name not in header.tensors:
            raise header.refusal(f"tensor {name!r} is missing")
        if (shape := header.tensors[name].shape) != expected:
            raise header.refusal(f"tensor {name!r} has shape {list(shape)} instead of {list(expected)}")
    if unknown := sorted(header.tensors.keys() - places.keys() - {ROPE_FACTORS}):
        raise header.refusal(f"tensors {unknown[:5]} are not supported")
    return {name: place for name, (place, _) in places.items()}
