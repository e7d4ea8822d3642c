"""One pass through a causal LM: transformers' own way, or ours where every decoder layer is a lean one.

Around the layers transformers checks arguments, looks for a mask and computes rotary embeddings from nothing; for one row of
the zoo's target that takes a sixth of the pass.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from transformers import PreTrainedModel

from hedgespec.models.cpu.layer_stack import LayerStack
from hedgespec.models.cpu.lean_layer import LeanLayer, Norm
from hedgespec.models.cpu.lean_layers import lean_norm
from hedgespec.models.cpu.scripting import NUM_REHEARSALS, scripted
from hedgespec.models.memory.attention import PackedAttention, PassAttention, Rows
from hedgespec.models.memory.kv_memory import KvMemory
from hedgespec.models.rotary import FIRST_POSITIONS, RotationTable

_STATIC_ROPE = frozenset({"default", "linear", "llama3", "yarn"})
"""Rotary embeddings of a position that do not depend on how long the text is."""

_NUM_TRIAL_ROWS = 5
_TOLERANCE = 1e-4
"""Of the largest logit."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """One packed pass.

    token_ids, positions: [total_rows]
    wanted: [num_wanted] rows that get logits, None for all
    """

    token_ids: Tensor
    positions: Tensor
    wanted: Tensor | None
    attention: PassAttention


class Network(Protocol):
    def __call__(self, inputs: Inputs, tapped: Collection[int]) -> tuple[Tensor, list[Tensor]]:
        """Logits [num_wanted, vocab], and what enters each of the tapped layers, [total_rows, hidden] each."""
        ...


class TransformersNetwork:
    """layers: the model's decoder layers, of any kind."""

    def __init__(self, model: PreTrainedModel, layers: nn.ModuleList) -> None:
        self._model = model
        self._layers = layers

    def __call__(self, inputs: Inputs, tapped: Collection[int]) -> tuple[Tensor, list[Tensor]]:
        taps: list[Tensor] = []
        hooks = [self._layers[index].register_forward_pre_hook(_tap(taps), with_kwargs=True) for index in tapped]
        try:
            output = self._model(
                input_ids=inputs.token_ids.unsqueeze(0),
                position_ids=inputs.positions.unsqueeze(0),
                use_cache=False,
                logits_to_keep=0 if inputs.wanted is None else inputs.wanted,
                packed=inputs.attention,
            )
        finally:
            for hook in hooks:
                hook.remove()
        return output.logits[0], taps


class LeanNetwork:
    """Lean layers between an embedding, a last norm and an output matrix. float32 on the CPU."""

    def __init__(self, base: Any, head: nn.Module, norm: Norm) -> None:
        self._table: Tensor = base.embed_tokens.weight
        self._layers = cast("list[LeanLayer]", list(base.layers))
        self._shapes = [layer.shape for layer in self._layers]
        self._stack = LayerStack([layer.weights for layer in self._layers], head, norm.scale, norm.floor)
        self._scripted = scripted(self._stack)
        self._rotations = RotationTable(lambda positions: base.rotary_emb(self._table, positions))

    def __call__(self, inputs: Inputs, tapped: Collection[int]) -> tuple[Tensor, list[Tensor]]:
        self._rotations.require(int(inputs.positions.max()) + 1)
        rotation = self._rotations.at(inputs.positions)
        hidden = embedding(inputs.token_ids, self._table)
        if isinstance(inputs.attention, PackedAttention):
            plan = inputs.attention.plan(self._shapes)
            logits, taps = self._scripted(hidden, rotation, inputs.wanted, plan, list(tapped))
            return logits, taps
        taps = []
        for index, layer in enumerate(self._layers):
            taps += [hidden] * sum(index == other for other in tapped)
            hidden = layer.step(hidden, rotation, inputs.attention)
        return self._stack.logits(hidden, inputs.wanted), taps


@torch.inference_mode()
def network_of(model: PreTrainedModel, layers: nn.ModuleList) -> Network:
    """The leaner network if it gives the same logits as transformers' own."""
    network = TransformersNetwork(model, layers)
    lean = _lean_network(model, layers)
    if lean is None:
        return network
    config = model.config.get_text_config()
    expected = _trial_logits(network, config)
    for _ in range(NUM_REHEARSALS):
        if not (_trial_logits(lean, config) - expected).abs().max() <= _TOLERANCE * expected.abs().max():
            return network
    return lean


# ------------------------------------------------------------------------------------------------------------- helpers


def _lean_network(model: PreTrainedModel, layers: nn.ModuleList) -> LeanNetwork | None:
    base, head = model.base_model, model.get_output_embeddings()
    if not len(layers) or not all(isinstance(layer, LeanLayer) for layer in layers):
        return None  # whatever is on another device ends here
    if set(dict(base.named_children())) != {"embed_tokens", "layers", "norm", "rotary_emb"} or head is None:
        return None
    norm = lean_norm(base.norm)
    has_table = getattr(base.rotary_emb, "rope_type", None) in _STATIC_ROPE
    if norm is None or base.layers is not layers or not has_table:
        return None
    return LeanNetwork(base, head, norm)


def _trial_logits(network: Network, config: Any) -> Tensor:
    token_ids = torch.linspace(0, config.vocab_size - 1, _NUM_TRIAL_ROWS).long()
    end = min(FIRST_POSITIONS, config.max_position_embeddings)
    positions = torch.linspace(0, end - 1, _NUM_TRIAL_ROWS).long()
    wanted = torch.arange(1, _NUM_TRIAL_ROWS)
    return network(Inputs(token_ids, positions, wanted, _trial_attention()), ())[0]


def _trial_attention() -> PackedAttention:
    slot = KvMemory(_NUM_TRIAL_ROWS).open(_NUM_TRIAL_ROWS)
    slot.require(_NUM_TRIAL_ROWS)
    return PackedAttention([Rows(slot, 0, _NUM_TRIAL_ROWS)], torch.float32, torch.device("cpu"))


def _tap(taps: list[Tensor]) -> Any:
    """A hook that keeps what enters a layer."""

    def keep(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        taps.append(hidden[0])

    return keep
