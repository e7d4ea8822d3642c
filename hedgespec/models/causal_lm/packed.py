"""Any transformers causal LM as a packed runner: our attention, our KV memory, taps for hidden features.

The model folder needs no copied code: transformers builds the network, and every attention layer calls the function
that is registered here under the name `hedgespec_packed`. No attention mask is built by transformers, because it only
builds masks for names that its mask registry knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from hedgespec.errors import ModelFolderError
from hedgespec.models.causal_lm.block import Block, BlockOutput
from hedgespec.models.causal_lm.network import Inputs, Network, network_of
from hedgespec.models.cpu.lean_layers import replace_layers
from hedgespec.models.cpu.packed_linear import pack_linears, padded_rows
from hedgespec.models.eagle3.head import feature_layers
from hedgespec.models.graphs.buckets import BLOCKS
from hedgespec.models.graphs.kv_lanes import KvLanes
from hedgespec.models.graphs.static_passes import StaticPasses
from hedgespec.models.graphs.static_trial import check_static_passes
from hedgespec.models.memory.attention import PackedAttention, Rows, depths
from hedgespec.models.memory.kv_memory import KvMemory
from hedgespec.observability.logging import failure_fields

log = structlog.get_logger(__name__)

ATTENTION_NAME = "hedgespec_packed"
MIN_FEATURE_LAYERS = 5
"""What `feature_layers` needs; shallower targets work with drafters that use no features."""


class PackedCausalLM:
    """A loaded model whose `forward` takes blocks of many sessions at once. One thread at a time.

    num_parameters: tied tensors count once. weight_bytes: what a pass must read of them
    """

    def __init__(self, model: PreTrainedModel, digest: str, device: torch.device) -> None:
        config = model.config.get_text_config()
        self.vocab_size: int = config.vocab_size
        self.max_positions: int = config.max_position_embeddings
        self.num_layers: int = config.num_hidden_layers
        self.hidden_size: int = config.hidden_size
        self.digest = digest
        self.device = device
        self.dtype: torch.dtype = next(model.parameters()).dtype
        self.num_parameters = sum(p.numel() for p in model.parameters())
        self.weight_bytes = _weight_bytes(model)
        self._model = model
        self._tapped = feature_layers(self.num_layers) if self.num_layers >= MIN_FEATURE_LAYERS else ()
        self._network = _network(model, self.num_layers, device)
        self.static_passes: StaticPasses | None = None

    @property
    def feature_width(self) -> int:
        """0: too few layers to give features."""
        return len(self._tapped) * self.hidden_size

    @property
    def kv_bytes_per_token(self) -> int:
        config = self._model.config.get_text_config()
        num_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return int(2 * self.num_layers * num_heads * head_dim * self.dtype.itemsize)

    @torch.inference_mode()
    def use_static_passes(self, num_lanes: int, capacity: int, advance: Callable[[int], None] = lambda _: None) -> int:
        """Decode on static buffers from now on: num_lanes sessions of up to `capacity` rows. The number of passes made.

        advance: called after each with their number. On CUDA each is a graph. Raises ReplicaLost when they give other logits
        than packed passes, which are then still used.
        """
        trial = KvMemory(1).open(1)
        self.forward([Block(trial, np.zeros(1, np.int32))])
        lanes = KvLanes(num_lanes, min(capacity, self.max_positions + BLOCKS[-1]), trial.layers)
        passes = StaticPasses(self._network, self._tapped, lanes, self.device)
        num_passes = passes.capture(advance)
        check_static_passes(passes, self._packed, self.vocab_size, self.dtype)
        self.static_passes = passes
        return num_passes

    @torch.inference_mode()
    def forward(self, blocks: Sequence[Block]) -> list[BlockOutput]:
        """Run all blocks and append their rows to their slots (`slot.length` grows): in one pass, or short chains in a
        static one and the others in another.

        Raises ReplicaBusy when a slot finds no memory; then no slot has grown.
        """
        for block in blocks:
            block.slot.require(block.slot.length + block.num_rows)
        outputs = self._static(blocks)
        others = [place for place in range(len(blocks)) if place not in outputs]
        if others:
            outputs |= zip(others, self._packed([blocks[place] for place in others]), strict=True)
        for block in blocks:
            block.slot.length += block.num_rows
        return [outputs[place] for place in range(len(blocks))]

    def _static(self, blocks: Sequence[Block]) -> dict[int, BlockOutput]:
        """By their places, those that static passes have done. A graph that fails is logged, and none is used any more: what
        it may have written stands behind the slots' rows, where the packed pass writes as well."""
        if self.static_passes is None:
            return {}
        try:
            return self.static_passes.decode(blocks)
        except RuntimeError as error:  # torch's own
            log.error("graphs_given_up", **failure_fields(error))
            self.static_passes = None
            return {}

    def _packed(self, blocks: Sequence[Block]) -> list[BlockOutput]:
        rows = []
        for block in blocks:
            rows.append(Rows(block.slot, block.slot.length, block.num_rows, block.parent))
        starts = [0, *accumulate(block.num_rows for block in blocks)]
        # whole row counts from here on, or every layer would copy its input to get there
        num_spare = self._padded(starts[-1]) - starts[-1]
        inputs = Inputs(
            self._on_device([block.token_ids for block in blocks], num_spare),
            self._on_device([r.start + depths(r.parent, r.num_rows) for r in rows], num_spare),
            self._wanted(blocks, starts),
            PackedAttention(rows, self.dtype, self.device, num_spare),
        )
        logits, taps = self._network(inputs, self._tapped if any(block.wants_features for block in blocks) else ())
        features = torch.cat(taps, dim=-1) if taps else None
        return _split(blocks, starts, logits, features)

    def _padded(self, num_rows: int) -> int:
        return padded_rows(num_rows) if self.device.type == "cpu" else num_rows

    def _wanted(self, blocks: Sequence[Block], starts: Sequence[int]) -> Tensor | None:
        """The rows that get logits, and some more to a whole count; None for all."""
        if not any(block.logits_from for block in blocks):
            return None
        wanted = [np.arange(s + b.logits_from, s + b.num_rows) for s, b in zip(starts, blocks, strict=False)]
        num_wanted = sum(map(len, wanted))
        return self._on_device(wanted, self._padded(num_wanted) - num_wanted)

    def _on_device(self, parts: Sequence[NDArray[Any]], num_spare: int) -> Tensor:
        """Integers one after the other, and zeros behind them."""
        joined = np.concatenate([*parts, np.zeros(num_spare, np.int64)], dtype=np.int64)
        return torch.from_numpy(joined).to(self.device)


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packed: PackedAttention,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """What transformers calls in every attention layer; the names are its own.

    query: [1, num_heads, total_rows, head_dim]; returns [1, total_rows, num_heads, head_dim].
    """
    if attention_mask is not None or softcap is not None or s_aux is not None:
        raise ModelFolderError("this model's attention uses a mask, soft caps or sinks, which packed attention lacks")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    output = packed.attend(module.layer_idx, query, key, value, scale, sliding_window)
    return output.transpose(1, 2), None


# ------------------------------------------------------------------------------------------------------------- helpers


def _split(
    blocks: Sequence[Block], starts: Sequence[int], logits: Tensor, features: Tensor | None
) -> list[BlockOutput]:
    outputs = []
    first = 0
    for block, start in zip(blocks, starts, strict=False):
        end = first + block.num_rows - block.logits_from
        own = None
        if features is not None and block.wants_features:
            # a copy: whoever keeps a session's features must not keep those of all others alive
            own = features[start : start + block.num_rows].clone()
        outputs.append(BlockOutput(logits[first:end], own))
        first = end
    return outputs


def _network(model: PreTrainedModel, num_layers: int, device: torch.device) -> Network:
    layers = _decoder_layers(model, num_layers)
    if device.type == "cpu":
        replace_layers(model, layers)
        pack_linears(model)
    return network_of(model, layers)


def _weight_bytes(model: PreTrainedModel) -> int:
    """Everything but the input embedding, of which a pass reads a few rows; tied to the output matrix it is read whole."""
    tables = {id(p) for p in model.get_input_embeddings().parameters()}
    output = model.get_output_embeddings()
    tables -= {id(p) for p in output.parameters()} if output is not None else set()
    return sum(p.numel() * p.element_size() for p in model.parameters() if id(p) not in tables)


def _decoder_layers(model: PreTrainedModel, num_layers: int) -> nn.ModuleList:
    """Empty for a model too shallow for features that has no such list: nobody needs it."""
    stacks = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == num_layers]
    if not stacks and num_layers >= MIN_FEATURE_LAYERS:
        raise ModelFolderError(f"{type(model).__name__} has no list of {num_layers} decoder layers")
    return stacks[0] if stacks else nn.ModuleList()
