"""Replacing transformers' decoder layers by lean ones: only what is known, and only what computes the same.

Before anything is replaced the model reads a few tokens, and every layer's input and output are kept. A lean layer takes
a layer's place when it gives that output for that input; a layer of another kind stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hedgespec.models.cpu.lean_layer import ACTIVATIONS, LayerParts, LeanLayer, Norm, activated, length_of
from hedgespec.models.cpu.packed_linear import can_pack
from hedgespec.models.memory.attention import PackedAttention, Rows
from hedgespec.models.memory.kv_memory import KvMemory

KNOWN_TYPES = frozenset({"llama", "mistral", "qwen2", "qwen3", "gemma"})
"""Names of configurations. What a layer does with long texts shows in no short trial, so others are left alone."""

_LAYER = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
_HEAD_NORMS = {"q_norm", "k_norm"}
_MLP = {"gate_proj", "up_proj", "down_proj", "act_fn"}

_NUM_TRIAL_ROWS = 7
_LARGEST_TRIAL_POSITION = 512
_TOLERANCE = 1e-4
"""Of the largest change that a layer makes to its input; float32 rounding is a hundred times smaller."""


@dataclass(slots=True)
class _Trial:
    """What one layer was given and what it returned. scale, window: of its attention."""

    hidden: Tensor
    embeddings: tuple[Tensor, Tensor] | None
    output: Tensor | None = None
    scale: float | None = None
    window: int | None = None


class _Recorder(PackedAttention):
    """Attention that remembers how each layer calls it."""

    def __init__(self, rows: Sequence[Rows], dtype: torch.dtype) -> None:
        super().__init__(rows, dtype, torch.device("cpu"))
        self.calls: dict[int, tuple[float, int | None]] = {}

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None = None
    ) -> Tensor:
        self.calls[layer] = scale, window
        return super().attend(layer, query, key, value, scale, window)


@torch.inference_mode()
def replace_layers(model: PreTrainedModel, layers: nn.ModuleList) -> None:
    """Put lean layers in the place of those that they equal. One layer is held twice at a time.

    layers: the model's decoder layers. Its attention function is `packed.packed_attention`.
    """
    config = model.config.get_text_config()
    if config.model_type not in KNOWN_TYPES or not all(can_pack(p) for p in model.parameters()):
        return
    for index, trial in _trials(model, layers).items():
        lean = _lean(layers[index], trial)
        if lean is not None and _is_same(lean, trial):
            layers[index] = lean


def lean_norm(module: Any) -> Norm | None:
    """The norm that a module computes, with `weight` or, like Gemma, 1 + `weight`; None when it is another one."""
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


def _trials(model: PreTrainedModel, layers: nn.ModuleList) -> dict[int, _Trial]:
    """What happens in every layer while the model reads a few tokens at scattered positions."""
    config = model.config.get_text_config()
    trials: dict[int, _Trial] = {}

    def before(index: int) -> Any:
        def keep(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
            hidden = args[0] if args else kwargs["hidden_states"]
            trials[index] = _Trial(hidden.clone(), kwargs.get("position_embeddings"))

        return keep

    def after(index: int) -> Any:
        def keep(module: nn.Module, args: tuple[Tensor, ...], output: Any) -> None:
            trials[index].output = output.clone() if isinstance(output, Tensor) else None

        return keep

    hooks = [layer.register_forward_pre_hook(before(i), with_kwargs=True) for i, layer in enumerate(layers)]
    hooks += [layer.register_forward_hook(after(i)) for i, layer in enumerate(layers)]
    recorder = _Recorder([_trial_rows()], torch.float32)
    last_position = min(_LARGEST_TRIAL_POSITION, config.max_position_embeddings) - 1
    try:
        model(
            input_ids=torch.linspace(0, config.vocab_size - 1, _NUM_TRIAL_ROWS).long().unsqueeze(0),
            position_ids=torch.linspace(0, last_position, _NUM_TRIAL_ROWS).long().unsqueeze(0),
            use_cache=False,
            packed=recorder,
        )
    finally:
        for hook in hooks:
            hook.remove()
    for index, trial in trials.items():
        trial.scale, trial.window = recorder.calls.get(index, (None, None))
    return trials


def _trial_rows() -> Rows:
    slot = KvMemory(_NUM_TRIAL_ROWS).open(_NUM_TRIAL_ROWS)
    slot.require(_NUM_TRIAL_ROWS)
    return Rows(slot, 0, _NUM_TRIAL_ROWS)


def _lean(layer: nn.Module, trial: _Trial) -> LeanLayer | None:
    parts = _parts(layer, trial)
    return None if parts is None else LeanLayer(parts)


def _parts(layer: nn.Module, trial: _Trial) -> LayerParts | None:
    """None for a layer that has more, less or other things inside than a lean one."""
    if set(dict(layer.named_children())) != _LAYER or trial.scale is None:
        return None
    attention: Any = layer.self_attn
    mlp: Any = layer.mlp
    inside = set(dict(attention.named_children()))
    if inside - _HEAD_NORMS != _ATTENTION or set(dict(mlp.named_children())) != _MLP:
        return None
    linears = [getattr(attention, name) for name in sorted(_ATTENTION)]
    linears += [mlp.gate_proj, mlp.up_proj, mlp.down_proj]
    if not all(type(linear) is nn.Linear for linear in linears):
        return None
    layer_norms = _norms(layer, ["input_layernorm", "post_attention_layernorm"])
    head_norms = _norms(attention, ["q_norm", "k_norm"] if inside & _HEAD_NORMS else [])
    activation = _activation(mlp.act_fn)
    if (
        layer_norms is None
        or head_norms is None
        or activation is None
        or not _are_of_heads(head_norms, attention.head_dim)
    ):
        return None
    return LayerParts(
        query=attention.q_proj,
        key=attention.k_proj,
        value=attention.v_proj,
        output=attention.o_proj,
        gate=mlp.gate_proj,
        up=mlp.up_proj,
        down=mlp.down_proj,
        attention_norm=layer_norms[0],
        mlp_norm=layer_norms[1],
        head_norms=(head_norms[0], head_norms[1]) if head_norms else None,
        activation=activation,
        head_dim=attention.head_dim,
        scale=trial.scale,
        window=trial.window,
        index=attention.layer_idx,
    )


def _activation(module: nn.Module) -> str | None:
    """Which of ours it is; transformers wraps torch's functions in modules, which costs as much as computing them."""
    states = torch.linspace(-4.0, 4.0, 99)
    expected = module(states)
    return next((name for name in ACTIVATIONS if torch.allclose(activated(states, name), expected, atol=1e-6)), None)


def _norms(owner: nn.Module, names: Sequence[str]) -> list[Norm] | None:
    """None when one of them is missing or another kind of norm."""
    norms = [lean_norm(getattr(owner, name, None)) for name in names]
    known = [norm for norm in norms if norm is not None]
    return known if len(known) == len(norms) else None


def _are_of_heads(norms: Sequence[Norm], head_dim: int) -> bool:
    """Both of one head's size, as Qwen3's are, and with the same eps; or none at all."""
    return all(norm.size == head_dim for norm in norms) and len({norm.eps for norm in norms}) <= 1


def _is_same(lean: LeanLayer, trial: _Trial) -> bool:
    if trial.embeddings is None or trial.output is None or trial.embeddings[0].shape[-1] != lean.weights.head_dim:
        return False
    packed = PackedAttention([_trial_rows()], torch.float32, torch.device("cpu"))
    actual = lean(trial.hidden, position_embeddings=trial.embeddings, packed=packed)
    largest_change = (trial.output - trial.hidden).abs().max()
    return bool((actual - trial.output).abs().max() <= _TOLERANCE * largest_change)
