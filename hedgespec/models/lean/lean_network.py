"""The CPU door for causal LMs: `accelerate` makes a loaded model compute the same with fewer and faster operators.

Around the layers transformers checks arguments, looks for a mask and computes rotary embeddings anew; for one row of the
zoo's target that takes a sixth of the pass. `scripting` compiles the whole pass here; annotations must be types, no strings.
"""

from collections.abc import Collection, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from transformers import PreTrainedModel

from hedgespec.config import Quantization
from hedgespec.models.causal_lm.network import Inputs, Network, TransformersNetwork
from hedgespec.models.causal_lm.packed import PackedCausalLM
from hedgespec.models.lean.layer_replacement import TrialAttention, lean_norm, replace_layers, trial_inputs
from hedgespec.models.lean.lean_layer import LayerWeights, LeanLayer, Norm, after_attention, before_attention, length_of
from hedgespec.models.lean.packed_linear import pack_linears, padded_rows
from hedgespec.models.lean.scripting import NUM_REHEARSALS, scripted
from hedgespec.models.lean.target_matrix import check_quantization, quantize_linears
from hedgespec.models.memory.attention import PackedAttention
from hedgespec.models.memory.planned_attention import AttentionPlan, attend_planned
from hedgespec.models.rotary import RotationTable

_STATIC_ROPE = frozenset({"default", "linear", "llama3", "yarn"})
"""Rotary embeddings of a position that do not depend on the length of the text, so that a table can hold them."""

_TOLERANCES: dict[Quantization, float] = {"none": 1e-4, "bf16": 1e-4, "int8": 1e-2, "int4": 5e-2}
"""Relative to the largest logit, or entry of a feature layer. Where rows are rounded as well, a last bit before the rounding
can become a step after it."""


@torch.inference_mode()
def accelerate(model: PackedCausalLM, quantization: Quantization = "none") -> PackedCausalLM:
    """Replace layers, matrices and network of a model on the CPU, wherever the replacement computes the same.

    quantization: how all matrices but the embedding are rounded; what the model computes for a row then depends on that
        row's text alone, bit for bit
    Returns the same model; one on another device is left alone. Its weights are no parameters any more: count them before.
    Raises ConfigError where torch cannot compute with weights that are rounded so.
    """
    if model.device.type != "cpu":
        return model
    check_quantization(quantization)
    replace_layers(model, quantization)
    if quantization == "none":
        pack_linears(model.model)
    else:
        quantize_linears(model.model, model.model.get_output_embeddings(), quantization)
        for parameter in model.model.parameters():  # what is left was read from a file that stays mapped as long as it
            parameter.data = parameter.data.clone()
        model.is_row_exact = True
    model.network = _same_network(model, quantization) or PaddedNetwork(model.model, model.layers, quantization)
    return model


class PaddedNetwork(TransformersNetwork):
    """transformers' own forward over packed matrices, which compute few row counts."""

    def __init__(self, model: PreTrainedModel, layers: nn.ModuleList, quantization: Quantization) -> None:
        super().__init__(model, layers)
        self._quantization = quantization

    def padded_rows(self, num_rows: int) -> int:
        return padded_rows(num_rows) if self._quantization == "none" else num_rows


class LayerStack(nn.Module):
    """Lean layers, the last norm and the output matrix as one module that `scripting` can compile.

    lm_head: called with [num_rows, hidden]; scale, floor: of the norm before it, see `lean_layer.Norm`
    """

    layers: list[LayerWeights]

    def __init__(self, layers: list[LayerWeights], lm_head: nn.Module, scale: Tensor, floor: Tensor) -> None:
        super().__init__()
        self.layers = layers
        self.lm_head = lm_head
        self.scale, self.floor = scale, floor

    def forward(
        self, hidden: Tensor, rotation: Tensor, wanted: Tensor | None, plan: AttentionPlan, tapped: list[int]
    ) -> tuple[Tensor, list[Tensor]]:
        """Run all layers. hidden: [total_rows, hidden]; rotation: [total_rows, 1, head_dim / 2]; see `network.Network`"""
        taps: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            for other in tapped:
                if other == index:
                    taps.append(hidden)
            query, key, value = before_attention(layer, hidden, rotation)
            attended = attend_planned(plan, index, query, key, value, layer.scale)
            hidden = after_attention(layer, hidden, attended)
        return self.logits(hidden, wanted), taps

    def logits(self, hidden: Tensor, wanted: Tensor | None) -> Tensor:
        """Return the wanted rows' logits, [num_wanted, vocab]."""
        if wanted is not None:
            hidden = torch.index_select(hidden, 0, wanted)
        logits: Tensor = self.lm_head(hidden / length_of(hidden, self.floor) * self.scale)
        return logits


class LeanNetwork:
    """A network of lean layers only: embedding, layers, last norm and output matrix, on the CPU."""

    def __init__(self, base: Any, lm_head: nn.Module, norm: Norm, quantization: Quantization) -> None:
        self._quantization = quantization
        self._table: Tensor = base.embed_tokens.weight
        self._layers = cast("list[LeanLayer]", list(base.layers))
        self._shapes = [layer.shape for layer in self._layers]
        self._stack = LayerStack([layer.weights for layer in self._layers], lm_head, norm.scale, norm.floor)
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

    def padded_rows(self, num_rows: int) -> int:
        return padded_rows(num_rows) if self._quantization == "none" else num_rows


# ------------------------------------------------------------------------------------------------------------- helpers


def _same_network(model: PackedCausalLM, quantization: Quantization) -> LeanNetwork | None:
    """Build a lean network; None where it cannot be built or gives other logits or features than the present network.

    It is tried as often as it takes torch to compile it.
    """
    lean = _lean_network(model, quantization)
    if lean is None:
        return None
    expected = _trial(model, model.network)
    tolerance = _TOLERANCES[quantization]
    is_same = all(_are_close(_trial(model, lean), expected, tolerance) for _ in range(NUM_REHEARSALS))
    return lean if is_same else None


def _lean_network(model: PackedCausalLM, quantization: Quantization) -> LeanNetwork | None:
    base, lm_head = model.model.base_model, model.model.get_output_embeddings()
    if not len(model.layers) or not all(isinstance(layer, LeanLayer) for layer in model.layers):
        return None
    if set(dict(base.named_children())) != {"embed_tokens", "layers", "norm", "rotary_emb"} or lm_head is None:
        return None
    norm = lean_norm(base.norm)
    has_table = getattr(base.rotary_emb, "rope_type", None) in _STATIC_ROPE
    if norm is None or base.layers is not model.layers or not has_table:
        return None
    return LeanNetwork(base, lm_head, norm, quantization)


def _trial(model: PackedCausalLM, network: Network) -> list[Tensor]:
    logits, taps = network(trial_inputs(model, TrialAttention()), model.tapped)
    return [logits, *taps]


def _are_close(actual: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> bool:
    pairs = zip(actual, expected, strict=True)
    return all(bool((own - other).abs().max() <= tolerance * other.abs().max()) for own, other in pairs)
