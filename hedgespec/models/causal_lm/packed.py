"""Run any transformers causal LM on blocks of many sessions at once: one packed pass, our KV memory, features on request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from hedgespec.errors import ModelFolderError
from hedgespec.models.causal_lm.block import Block, BlockOutput
from hedgespec.models.causal_lm.network import Inputs, Network, TransformersNetwork
from hedgespec.models.eagle3.config import feature_layers
from hedgespec.models.memory.attention import PackedAttention, Rows, depths

MIN_FEATURE_LAYERS = 5
"""The depth that `feature_layers` needs; shallower targets work with drafters that use no features."""

RunBlocks = Callable[["PackedCausalLM", Sequence[Block]], list[BlockOutput]]
"""Computes blocks of a model whose slots have room for them, and leaves `slot.length` as it is."""


class PackedCausalLM:
    """A loaded model whose `forward` takes blocks of many sessions at once. One thread at a time.

    layers, tapped: its decoder layers, and the indices of those whose inputs are the features
    Speed may replace two attributes without changing what `forward` returns, beyond float rounding:
    network:    computes one pass; `models.lean.lean_network.accelerate` puts a leaner network here
    run_blocks: computes all blocks, by default `packed_pass`; `models.graphs.static_passes` puts CUDA graphs before it

    is_row_exact: whether attention keeps a row's result free, bit for bit, of the rows beside it, see `exact_attention`
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
        self.model = model
        self.layers = _decoder_layers(model, self.num_layers)
        self.tapped = feature_layers(self.num_layers) if self.num_layers >= MIN_FEATURE_LAYERS else ()
        self.network: Network = TransformersNetwork(model, self.layers)
        self.run_blocks: RunBlocks = PackedCausalLM.packed_pass
        self.is_row_exact = False

    @property
    def feature_width(self) -> int:
        """Features per position; 0 for a model with too few layers to give any."""
        return len(self.tapped) * self.hidden_size

    @torch.inference_mode()
    def forward(self, blocks: Sequence[Block]) -> list[BlockOutput]:
        """Run all blocks and append their rows to their slots (`slot.length` grows).

        Raises ReplicaBusy when a slot finds no memory; then no slot has grown.
        """
        for block in blocks:
            block.slot.require(block.slot.length + block.num_rows)
        outputs = self.run_blocks(self, blocks)
        for block in blocks:
            block.slot.length += block.num_rows
        return outputs

    def packed_pass(self, blocks: Sequence[Block]) -> list[BlockOutput]:
        """Compute all blocks in one pass through the network, see `RunBlocks`."""
        rows = [Rows(block.slot, block.slot.length, block.num_rows, block.parent) for block in blocks]
        starts = [0, *accumulate(block.num_rows for block in blocks)]
        # padded here once, or every layer would copy its input to pad it
        num_spare = self.network.padded_rows(starts[-1]) - starts[-1]
        inputs = Inputs(
            self._on_device([block.token_ids for block in blocks], num_spare),
            self._on_device([r.start + depths(r.parent, r.num_rows) for r in rows], num_spare),
            self._wanted(blocks, starts),
            PackedAttention(rows, self.dtype, self.device, num_spare, is_row_exact=self.is_row_exact),
        )
        logits, taps = self.network(inputs, self.tapped if any(block.wants_features for block in blocks) else ())
        features = torch.cat(taps, dim=-1) if taps else None
        return _split(blocks, starts, logits, features)

    def _wanted(self, blocks: Sequence[Block], starts: Sequence[int]) -> Tensor | None:
        """List the rows that get logits, padded; None for all."""
        if not any(block.logits_from for block in blocks):
            return None
        wanted = [np.arange(s + b.logits_from, s + b.num_rows) for s, b in zip(starts, blocks, strict=False)]
        num_wanted = sum(map(len, wanted))
        return self._on_device(wanted, self.network.padded_rows(num_wanted) - num_wanted)

    def _on_device(self, parts: Sequence[NDArray[Any]], num_spare: int) -> Tensor:
        """Join integers and append num_spare zeros."""
        joined = np.concatenate([*parts, np.zeros(num_spare, np.int64)], dtype=np.int64)
        return torch.from_numpy(joined).to(self.device)


def _split(
    blocks: Sequence[Block], starts: Sequence[int], logits: Tensor, features: Tensor | None
) -> list[BlockOutput]:
    outputs = []
    first = 0
    for block, start in zip(blocks, starts, strict=False):
        end = first + block.num_rows - block.logits_from
        own = None
        if features is not None and block.wants_features:
            # a copy: keeping one session's features must not keep all others' alive
            own = features[start : start + block.num_rows].clone()
        outputs.append(BlockOutput(logits[first:end], own))
        first = end
    return outputs


def _decoder_layers(model: PreTrainedModel, num_layers: int) -> nn.ModuleList:
    """Find the list of decoder layers; empty for a model without one that is too shallow for features anyway."""
    stacks = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == num_layers]
    if not stacks and num_layers >= MIN_FEATURE_LAYERS:
        raise ModelFolderError(f"{type(model).__name__} has no list of {num_layers} decoder layers")
    return stacks[0] if stacks else nn.ModuleList()
