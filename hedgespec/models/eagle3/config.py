"""The shape of an EAGLE-3 head, read from and written as the published config.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hedgespec.errors import ModelFolderError
from hedgespec.models.rotary import RopeConfig, rope_config

_REFUSED_FLAGS = ("norm_before_fc", "fc_norm", "norm_output", "attention_bias", "mlp_bias", "quantization_config")


def feature_layers(num_layers: int) -> tuple[int, int, int]:
    """Return the 0-based layers whose *input* hidden states are a target's features, in the order they are joined."""
    if num_layers < 5:
        raise ModelFolderError(f"EAGLE-3 needs a target of at least 5 layers, this one has {num_layers}.")
    return 2, num_layers // 2, num_layers - 3


@dataclass(frozen=True, slots=True)
class Eagle3Config:
    """The shape of a head.

    norm_before_residual: the residual is the normed hidden state, not the hidden state itself
    """

    hidden_size: int
    target_hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    draft_vocab_size: int
    max_positions: int
    rms_norm_eps: float
    rope: RopeConfig
    norm_before_residual: bool = False
    has_fc_bias: bool = False

    @classmethod
    def from_published(cls, config: dict[str, Any]) -> Eagle3Config:
        """Read a config.json. Keys without meaning for a head are ignored; variants it cannot run raise."""
        _refuse_variants(config)
        try:
            hidden, attention_heads = int(config["hidden_size"]), int(config["num_attention_heads"])
            return cls(
                hidden_size=hidden,
                target_hidden_size=int(config.get("target_hidden_size") or hidden),
                intermediate_size=int(config["intermediate_size"]),
                num_attention_heads=attention_heads,
                num_kv_heads=int(config.get("num_key_value_heads") or attention_heads),
                head_dim=int(config.get("head_dim") or hidden // attention_heads),
                vocab_size=int(config["vocab_size"]),
                draft_vocab_size=int(config.get("draft_vocab_size") or config["vocab_size"]),
                max_positions=int(config.get("max_position_embeddings", 2048)),
                rms_norm_eps=float(config.get("rms_norm_eps", 1e-6)),
                rope=rope_config(config),
                norm_before_residual=bool(config.get("norm_before_residual", False)),
                has_fc_bias=bool(config.get("bias", False)),
            )
        except KeyError as error:
            raise ModelFolderError(f"The EAGLE-3 config.json lacks {error.args[0]!r}.") from error
        except (TypeError, ValueError) as error:
            raise ModelFolderError(f"The EAGLE-3 config.json has a value of the wrong type: {error}.") from error

    def to_published(self) -> dict[str, Any]:
        """Return the config.json that other EAGLE-3 loaders expect."""
        config: dict[str, Any] = {
            "architectures": ["LlamaForCausalLMEagle3"],
            "model_type": "llama",
            "hidden_size": self.hidden_size,
            "target_hidden_size": self.target_hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "num_hidden_layers": 1,
            "vocab_size": self.vocab_size,
            "draft_vocab_size": self.draft_vocab_size,
            "max_position_embeddings": self.max_positions,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope.theta,
            "hidden_act": "silu",
            "tie_word_embeddings": False,
            "norm_before_residual": self.norm_before_residual,
            "bias": self.has_fc_bias,
        }
        if self.rope.kind != "default":
            config["rope_scaling"] = {
                "rope_type": self.rope.kind,
                "factor": self.rope.factor,
                "low_freq_factor": self.rope.low_freq_factor,
                "high_freq_factor": self.rope.high_freq_factor,
                "original_max_position_embeddings": self.rope.original_max_positions,
            }
        return config


def _refuse_variants(config: dict[str, Any]) -> None:
    for key in _REFUSED_FLAGS:
        if config.get(key):
            raise ModelFolderError(f"EAGLE-3 variant {key}={config[key]!r} is not supported.")
    if config.get("num_hidden_layers", 1) != 1:
        raise ModelFolderError(f"EAGLE-3 heads have one layer here, this one has {config['num_hidden_layers']}.")
    if config.get("hidden_act", "silu") != "silu":
        raise ModelFolderError(f"EAGLE-3 activation {config['hidden_act']!r} is not supported, only 'silu'.")
    if "transformer_layer_config" in config:
        raise ModelFolderError("This is a speculators config: convert the head to the published EAGLE-3 layout first.")
