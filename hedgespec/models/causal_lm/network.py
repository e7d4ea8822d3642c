"""One pass through a causal LM as transformers computes it, with our attention in every layer.

transformers builds the network from the folder's config, and every attention layer calls the function that is registered
here as `hedgespec_packed`. transformers builds no mask for it, as its mask registry does not know the name.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from hedgespec.errors import ModelFolderError
from hedgespec.models.memory.attention import PassAttention

_ATTENTION_NAME = "hedgespec_packed"


@dataclass(frozen=True, slots=True)
class Inputs:
    """One packed pass: the rows of all sessions, one after the other.

    token_ids, positions: [total_rows]
    wanted: [num_wanted] rows that get logits, None for all
    """

    token_ids: Tensor
    positions: Tensor
    wanted: Tensor | None
    attention: PassAttention


class Network(Protocol):
    """Computes a pass. The plain one is `TransformersNetwork`; the CPU door puts a faster one in its place."""

    def __call__(self, inputs: Inputs, tapped: Collection[int]) -> tuple[Tensor, list[Tensor]]:
        """Return logits [num_wanted, vocab] and the input of each tapped layer, [total_rows, hidden] each."""
        ...

    def padded_rows(self, num_rows: int) -> int:
        """Return the number of rows, at least num_rows, that a pass over num_rows should be padded to."""
        ...


class TransformersNetwork:
    """transformers' own forward. layers: the model's decoder layers."""

    def __init__(self, model: PreTrainedModel, layers: nn.ModuleList) -> None:
        self._model = model
        self._layers = layers

    def __call__(self, inputs: Inputs, tapped: Collection[int]) -> tuple[Tensor, list[Tensor]]:
        taps: list[Tensor] = []
        hooks = [self._layers[index].register_forward_pre_hook(_append_to(taps), with_kwargs=True) for index in tapped]
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

    def padded_rows(self, num_rows: int) -> int:
        return num_rows


def attention_implementation() -> str:
    """Register our attention with transformers and return its name there, for `attn_implementation`."""
    ALL_ATTENTION_FUNCTIONS.register(_ATTENTION_NAME, packed_attention)
    return _ATTENTION_NAME


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packed: PassAttention,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Attend as `packed` does. transformers calls this in every attention layer and chooses the parameter names.

    query: [1, num_heads, total_rows, head_dim]; returns [1, total_rows, num_heads, head_dim]
    Raises ModelFolderError for masks, soft caps and sinks.
    """
    if attention_mask is not None or softcap is not None or s_aux is not None:
        raise ModelFolderError("this model's attention uses a mask, soft caps or sinks, which packed attention lacks")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    output = packed.attend(module.layer_idx, query, key, value, scale, sliding_window)
    return output.transpose(1, 2), None


def _append_to(taps: list[Tensor]) -> Any:
    """Make a hook that appends a layer's input to `taps`."""

    def append(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        taps.append(hidden[0])

    return append
