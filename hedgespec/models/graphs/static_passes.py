"""Decoding a causal LM on static buffers: one CUDA graph per bucket, captured when the model is loaded.

What fits no bucket (prefill, trees, texts beyond their lane) takes the packed pass. Off CUDA the same passes can be computed
without graphs, which is how they are tested.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.models.causal_lm.block import Block, BlockOutput
from hedgespec.models.causal_lm.network import Inputs, Network
from hedgespec.models.graphs.buckets import Bucket, Buckets
from hedgespec.models.graphs.kv_lanes import KvLanes
from hedgespec.models.graphs.replay import Replay
from hedgespec.models.graphs.static_attention import StaticAttention
from hedgespec.models.memory.kv_memory import KvSlot

Outputs = tuple[Tensor, Tensor | None]
"""Logits [batch * block, vocab] and features [batch * block, 3 * hidden], None for a target that gives none."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Consecutive new tokens of one session in a lane. first: the row of the first one."""

    lane: int
    first: int
    token_ids: NDArray[np.int32]


class StaticPasses:
    """network, tapped: see `network.Network`; lanes: of the model's KV."""

    def __init__(self, network: Network, tapped: Collection[int], lanes: KvLanes, device: torch.device) -> None:
        self.lanes = lanes
        self.buckets = Buckets(lanes.num_lanes, lanes.capacity)
        self._network = network
        self._tapped = tapped
        self._device = device
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None
        self._passes: dict[Bucket, _StaticPass] = {}

    def capture(self, advance: Callable[[int], None]) -> int:
        """Make every bucket's pass now; without it each is made at its first use. Returns the number of passes, with which
        advance is called after each."""
        buckets = list(self.buckets)
        for bucket in buckets:
            self._pass_for(bucket)
            advance(len(buckets))
        return len(buckets)

    def decode(self, blocks: Sequence[Block]) -> dict[int, BlockOutput]:
        """One pass over those blocks that fit, by their places in `blocks`. Their slots have room for their rows.

        Logits are valid until the next call.
        """
        short = {place: block for place, block in enumerate(blocks) if block.is_short_chain}
        num_rows = max((block.num_rows for block in short.values()), default=0)
        chains: dict[int, Chain] = {}
        for place, block in short.items():
            lane = self._lane_for(block.slot, num_rows)
            if lane is not None:
                chains[place] = Chain(lane, block.slot.length, block.token_ids)
        outputs: dict[int, BlockOutput] = {}
        for place, (logits, features) in zip(chains, self._run(list(chains.values())), strict=True):
            outputs[place] = BlockOutput(logits, features if blocks[place].wants_features else None)
        return outputs

    def _lane_for(self, slot: KvSlot, num_rows: int) -> int | None:
        """A lane for a slot in a pass of blocks of up to num_rows rows; None when no bucket has room for it."""
        bucket = self.buckets.smallest(1, num_rows, slot.length)
        return None if bucket is None else self.lanes.lane_of(slot, slot.length + bucket.block)

    def _run(self, chains: Sequence[Chain]) -> list[Outputs]:
        if not chains:
            return []
        block, end = max(len(chain.token_ids) for chain in chains), max(chain.first for chain in chains)
        bucket = self.buckets.smallest(len(chains), block, end)
        if bucket is None:
            raise ValueError(f"no bucket for {len(chains)} chains of up to {block} rows from row {end} on")
        return self._pass_for(bucket).run(chains)

    def _pass_for(self, bucket: Bucket) -> _StaticPass:
        if bucket not in self._passes:
            self._passes[bucket] = _StaticPass(
                bucket, self._network, self._tapped, self.lanes, self._device, self._pool
            )
        return self._passes[bucket]


class _StaticPass:
    """One bucket: its buffers, and what is computed from them."""

    def __init__(
        self,
        bucket: Bucket,
        network: Network,
        tapped: Collection[int],
        lanes: KvLanes,
        device: torch.device,
        pool: object,
    ) -> None:
        num_rows = bucket.batch * bucket.block
        self._bucket = bucket
        self._scratch = lanes.scratch
        # one buffer and so one copy: token ids, positions, lanes
        self._host = torch.zeros(2 * num_rows + bucket.batch, dtype=torch.int64, pin_memory=device.type == "cuda")
        self._inputs = torch.zeros_like(self._host, device=device)
        self._fill([])
        token_ids, positions, lane = self._inputs.split([num_rows, num_rows, bucket.batch])
        attention = StaticAttention(lanes, lane, positions.view(bucket.batch, bucket.block), bucket.context)

        def compute() -> Outputs:
            attention.begin()
            logits, taps = network(Inputs(token_ids, positions, None, attention), tapped)
            return logits, torch.cat(taps, dim=-1) if taps else None

        self._replay = Replay(compute, device, pool)

    def run(self, chains: Sequence[Chain]) -> list[Outputs]:
        self._fill(chains)
        logits, features = self._replay()
        outputs: list[Outputs] = []
        for place, chain in enumerate(chains):
            first = place * self._bucket.block
            own = slice(first, first + len(chain.token_ids))
            # the features outlive the next replay, the logits need not
            outputs.append((logits[own], None if features is None else features[own].clone()))
        return outputs

    def _fill(self, chains: Sequence[Chain]) -> None:
        """Rows that nobody needs follow their session's own, where the next pass overwrites them; sessions that nobody needs
        stand in the scratch lane."""
        batch, block = self._bucket.batch, self._bucket.block
        token_ids, positions, lane = np.split(self._host.numpy(), [batch * block, 2 * batch * block])
        token_ids, positions = token_ids.reshape(batch, block), positions.reshape(batch, block)
        token_ids[:] = 0
        positions[:] = np.arange(block)
        lane[:] = self._scratch
        for place, chain in enumerate(chains):
            token_ids[place, : len(chain.token_ids)] = chain.token_ids
            positions[place] += chain.first
            lane[place] = chain.lane
        self._inputs.copy_(self._host, non_blocking=True)
