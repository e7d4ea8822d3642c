"""Replace a model's decoder layers by lean ones where the lean layer is known to compute the same; leave all others alone.

Before anything is replaced the model reads a few tokens, and every layer's input and output are recorded. A lean layer
replaces a layer of a known kind if it returns that output for that input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hedgespec.config import Quantization
from hedgespec.models.causal_lm.network import Inputs
from hedgespec.models.causal_lm.packed import PackedCausalLM
from hedgespec.models.lean.lean_layer import (
    ACTIVATIONS,
    LeanLayer,
    Norm,
    RotationCache,
    activated,
    layer_weights,
    length_of,
)
from hedgespec.models.lean.packed_linear import can_pack
from hedgespec.models.memory.attention import PackedAttention, Rows
from hedgespec.models.memory.kv_memory import KvMemory
from hedgespec.models.rotary import FIRST_POSITIONS

KNOWN_TYPES = frozenset({"llama", "mistral", "qwen2", "qwen3", "gemma"})
"""`model_type` of the configs whose layers may be replaced: a short trial does not show what others do with long texts."""

_LAYER = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
_QUERY_KEY_NORMS = {"q_norm", "k_norm"}
_MLP = {"gate_proj", "up_proj", "down_proj", "act_fn"}

NUM_TRIAL_ROWS = 7
_TOLERANCE = 1e-4
"""Relative to the largest change that a layer makes to its input; float32 rounding is a hundred times smaller."""


@dataclass(frozen=True, slots=True)
class _Trial:
    """A layer's recorded input and output, and how it called attention (scale, window)."""

    hidden: Tensor
    embeddings: tuple[Tensor, Tensor] | None
    output: Any
    scale: float
    window: int | None


class TrialAttention(PackedAttention):
    """Attention for a trial of NUM_TRIAL_ROWS rows that records how each layer calls it."""

    def __init__(self) -> None:
        slot = KvMemory(NUM_TRIAL_ROWS).open(NUM_TRIAL_ROWS)
        slot.require(NUM_TRIAL_ROWS)
        super().__init__([Rows(slot, 0, NUM_TRIAL_ROWS)], torch.float32, torch.device("cpu"))
        self.calls: dict[int, tuple[float, int | None]] = {}

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None = None
    ) -> Tensor:
        self.calls[layer] = scale, window
        return super().attend(layer, query, key, value, scale, window)


def trial_inputs(model: PackedCausalLM, attention: TrialAttention) -> Inputs:
    """A pass over a few tokens at scattered positions, with logits for all rows but the first."""
    token_ids = torch.linspace(0, model.vocab_size - 1, NUM_TRIAL_ROWS).long()
    last_position = min(FIRST_POSITIONS, model.max_positions) - 1
    positions = torch.linspace(0, last_position, NUM_TRIAL_ROWS).long()
    return Inputs(token_ids, positions, torch.arange(1, NUM_TRIAL_ROWS), attention)


@torch.inference_mode()
def replace_layers(model: PackedCausalLM, quantization: Quantization) -> None:
    """Replace every decoder layer that a lean layer equals, and then round it. Each layer's weights are held twice while it
    is tried."""
    is_known = model.model.config.get_text_config().model_type in KNOWN_TYPES
    if not is_known or not all(can_pack(p) for p in model.model.parameters()):
        return
    rotations = RotationCache()
    for index, trial in _trials(model).items():
        layer = model.layers[index]
        lean = _lean(layer, trial, rotations, "none")
        if lean is None or not _is_same(lean, trial):
            continue
        if quantization != "none":
            lean = _lean(layer, trial, rotations, quantization) or lean
        model.layers[index] = lean


def lean_norm(module: Any) -> Norm | None:
    """Read a norm with factor `weight` or, as in Gemma, 1 + `weight`; None for a module that computes something else."""
    weight, eps = getattr(module, "weight", None), getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if not isinstance(weight, Tensor) or weight.dim() != 1 or not isinstance(eps, float):
        return None
    states = torch.linspace(-1.0, 2.0, 3 * len(weight)).view(3, -1)
    expected = module(states)
    for candidate in (weight.detach(), 1.0 + weight.detach()):
        norm = Norm(candidate, eps)
        if torch.allclose(states / length_of(states, norm.floor) * norm.scale, expected, rtol=1e-5, atol=1e-6):
            return norm
    return None


# ------------------------------------------------------------------------------------------------------------- helpers


def _trials(model: PackedCausalLM) -> dict[int, _Trial]:
    """Record every layer that attends while the model reads a few tokens."""
    trials: dict[int, _Trial] = {}
    attention = TrialAttention()

    def record(index: int) -> Any:
        def keep(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any], output: Any) -> None:
            if index in attention.calls:
                hidden = args[0] if args else kwargs["hidden_states"]
                trials[index] = _Trial(hidden, kwargs.get("position_embeddings"), output, *attention.calls[index])

        return keep

    hooks = [layer.register_forward_hook(record(i), with_kwargs=True) for i, layer in enumerate(model.layers)]
    try:
        model.network(trial_inputs(model, attention), ())
    finally:
        for hook in hooks:
            hook.remove()
    return trials


def _lean(layer: nn.Module, trial: _Trial, rotations: RotationCache, quantization: Quantization) -> LeanLayer | None:
    """Build a lean layer from a layer's parts; None for one that has more, fewer or other parts."""
    if set(dict(layer.named_children())) != _LAYER:
        return None
    attention: Any = layer.self_attn
    mlp: Any = layer.mlp
    inside = set(dict(attention.named_children()))
    if inside - _QUERY_KEY_NORMS != _ATTENTION or set(dict(mlp.named_children())) != _MLP:
        return None
    linears = [getattr(attention, name) for name in sorted(_ATTENTION)]
    linears += [mlp.gate_proj, mlp.up_proj, mlp.down_proj]
    if not all(type(linear) is nn.Linear for linear in linears):
        return None
    norms = _norms(layer, ["input_layernorm", "post_attention_layernorm"])
    query_key_norms = _norms(attention, ["q_norm", "k_norm"] if inside & _QUERY_KEY_NORMS else [])
    activation = _activation(mlp.act_fn)
    if norms is None or query_key_norms is None or activation is None:
        return None
    if not _fit_attention_heads(query_key_norms, attention.head_dim):
        return None
    weights = layer_weights(attention, mlp, norms, query_key_norms, activation, trial.scale, quantization)
    return LeanLayer(weights, attention.layer_idx, trial.window, rotations)


def _activation(module: nn.Module) -> str | None:
    """Name the activation; transformers wraps torch's functions in modules, which costs as much as computing them."""
    states = torch.linspace(-4.0, 4.0, 99)
    expected = module(states)
    return next((name for name in ACTIVATIONS if torch.allclose(activated(states, name), expected, atol=1e-6)), None)


def _norms(owner: nn.Module, names: Sequence[str]) -> list[Norm] | None:
    """Read these norms; None when one is missing or of another kind."""
    norms = [lean_norm(getattr(owner, name, None)) for name in names]
    found = [norm for norm in norms if norm is not None]
    return found if len(found) == len(norms) else None


def _fit_attention_heads(norms: Sequence[Norm], head_dim: int) -> bool:
    """Check that the norms are of one attention head's size, as in Qwen3, and have the same eps."""
    return all(norm.size == head_dim for norm in norms) and len({norm.eps for norm in norms}) <= 1


def _is_same(lean: LeanLayer, trial: _Trial) -> bool:
    if trial.embeddings is None or trial.embeddings[0].shape[-1] != lean.weights.head_dim:
        return False
    if not isinstance(trial.output, Tensor):
        return False
    actual = lean(trial.hidden, position_embeddings=trial.embeddings, packed=TrialAttention())
    largest_change = (trial.output - trial.hidden).abs().max()
    return bool((actual - trial.output).abs().max() <= _TOLERANCE * largest_change)
