"""The graphs door for causal LMs: `use_static_passes` makes a model decode in CUDA graphs, one per bucket.

A static pass computes on fixed buffers. Whatever fits no bucket (prefill, trees, texts beyond their lane) takes the packed
pass. Off CUDA the same passes are computed without graphs, which is how they are tested.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import structlog
import torch
from torch import Tensor

from hedgespec.errors import ReplicaLost
from hedgespec.models.causal_lm.block import Block, BlockOutput
from hedgespec.models.causal_lm.network import Inputs, Network
from hedgespec.models.causal_lm.packed import PackedCausalLM
from hedgespec.models.graphs.buckets import BLOCKS, Bucket, Buckets
from hedgespec.models.graphs.captured import Captured
from hedgespec.models.graphs.kv_lanes import KvLanes
from hedgespec.models.graphs.static_attention import StaticAttention
from hedgespec.models.memory.kv_memory import KvMemory, KvSlot
from hedgespec.observability.logging import failure_fields

log = structlog.get_logger(__name__)

TRIAL_TEXT_ROWS, TRIAL_BLOCKS = 7, (1, 6)
"""Rows before, and in, the blocks that a trial compares."""

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.02}
"""Relative to the largest logit: another order of summation changes no more than that."""

InLane = tuple[int, Block]
"""A lane and the block of the session that is in it."""


@torch.inference_mode()
def use_static_passes(
    model: PackedCausalLM, num_lanes: int, capacity: int, advance: Callable[[int], None] = lambda _: None
) -> int:
    """Let a model decode in static passes from now on; return the number of captured passes.

    num_lanes, capacity: sessions, and rows of each; advance: called after each capture with the number of all
    Raises ReplicaLost when static passes give other logits than packed ones; the model then goes on without them.
    """
    slot = KvMemory(1).open(1)
    model.forward([Block(slot, np.zeros(1, np.int32))])
    lanes = KvLanes(num_lanes, min(capacity, model.max_positions + BLOCKS[-1]), slot.layers)
    passes = StaticPasses(model, lanes)
    num_passes = passes.capture(advance)
    _check(passes, model)
    model.run_blocks = passes
    return num_passes


class StaticPasses:
    """Runs blocks of a model, those that fit a bucket in one static pass and the others in one packed pass."""

    def __init__(self, model: PackedCausalLM, lanes: KvLanes) -> None:
        self.lanes = lanes
        self.buckets = Buckets(lanes.num_lanes, lanes.capacity)
        # not the model itself, which holds this object: it is freed as soon as its owner lets go of it
        self._network, self._tapped, self._device = model.network, model.tapped, model.device
        self._pool = torch.cuda.graph_pool_handle() if model.device.type == "cuda" else None
        self._passes: dict[Bucket, _StaticPass] = {}

    def capture(self, advance: Callable[[int], None]) -> int:
        """Capture every bucket's pass now rather than at its first use; return their number, see `use_static_passes`."""
        buckets = list(self.buckets)
        for bucket in buckets:
            self._pass_for(bucket)
            advance(len(buckets))
        return len(buckets)

    def __call__(self, model: PackedCausalLM, blocks: Sequence[Block]) -> list[BlockOutput]:
        """See `packed.RunBlocks`. After a failure, which is logged, the model takes packed passes only: the rows that the
        graph may have written lie past the slots' lengths, where the packed pass writes as well."""
        try:
            outputs = self.decode(blocks)
        except RuntimeError as error:  # torch's own
            log.error("graphs_given_up", **failure_fields(error))
            model.run_blocks = PackedCausalLM.packed_pass
            outputs = {}
        others = [index for index in range(len(blocks)) if index not in outputs]
        if others:
            outputs |= zip(others, model.packed_pass([blocks[index] for index in others]), strict=True)
        return [outputs[index] for index in range(len(blocks))]

    def decode(self, blocks: Sequence[Block]) -> dict[int, BlockOutput]:
        """Run those blocks that fit in one static pass; return their outputs by index in `blocks`.

        Logits are valid until the next call.
        """
        short = {index: block for index, block in enumerate(blocks) if _is_short_chain(block)}
        num_rows = max((block.num_rows for block in short.values()), default=0)
        in_lanes: dict[int, InLane] = {}
        for index, block in short.items():
            lane = self._lane_for(block.slot, num_rows)
            if lane is not None:
                in_lanes[index] = lane, block
        return dict(zip(in_lanes, self._run(list(in_lanes.values())), strict=True))

    def _lane_for(self, slot: KvSlot, num_rows: int) -> int | None:
        """Return the slot's lane for a pass of blocks of up to num_rows rows; None when no bucket has room for it."""
        bucket = self.buckets.smallest(1, num_rows, slot.length)
        return None if bucket is None else self.lanes.lane_of(slot, slot.length + bucket.block)

    def _run(self, chains: Sequence[InLane]) -> list[BlockOutput]:
        if not chains:
            return []
        num_rows, end = max(block.num_rows for _, block in chains), max(block.slot.length for _, block in chains)
        bucket = self.buckets.smallest(len(chains), num_rows, end)
        if bucket is None:
            raise ValueError(f"no bucket for {len(chains)} chains of up to {num_rows} rows from row {end} on")
        return self._pass_for(bucket).run(chains)

    def _pass_for(self, bucket: Bucket) -> _StaticPass:
        if bucket not in self._passes:
            own = self._network, self._tapped, self.lanes, self._device, self._pool
            self._passes[bucket] = _StaticPass(bucket, *own)
        return self._passes[bucket]


class _StaticPass:
    """One bucket: its buffers, and the computation that reads them."""

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
        size = 2 * num_rows + bucket.batch
        self._host = torch.zeros(size, dtype=torch.int64, pin_memory=device.type == "cuda")
        self._inputs = torch.zeros_like(self._host, device=device)
        self._fill([])
        token_ids, positions, lane = self._inputs.split([num_rows, num_rows, bucket.batch])
        attention = StaticAttention(lanes, lane, positions.view(bucket.batch, bucket.block), bucket.context)

        def compute() -> tuple[Tensor, Tensor | None]:
            attention.begin()
            logits, taps = network(Inputs(token_ids, positions, None, attention), tapped)
            return logits, torch.cat(taps, dim=-1) if taps else None

        self._captured = Captured(compute, device, pool)

    def run(self, chains: Sequence[InLane]) -> list[BlockOutput]:
        """Return each block's logits [num_rows, vocab] and, if wanted and given, features [num_rows, 3 * hidden]."""
        self._fill(chains)
        logits, features = self._captured()
        outputs = []
        for index, (_, block) in enumerate(chains):
            first = index * self._bucket.block
            rows = slice(first, first + block.num_rows)
            # features outlive the next run, logits need not
            own = features[rows].clone() if features is not None and block.wants_features else None
            outputs.append(BlockOutput(logits[rows], own))
        return outputs

    def _fill(self, chains: Sequence[InLane]) -> None:
        """Write the buffers. A block's padding follows its rows, where the next pass overwrites it; a missing session's rows
        go to the scratch lane."""
        batch, block_rows = self._bucket.batch, self._bucket.block
        token_ids, positions, lanes = np.split(self._host.numpy(), [batch * block_rows, 2 * batch * block_rows])
        token_ids, positions = token_ids.reshape(batch, block_rows), positions.reshape(batch, block_rows)
        token_ids[:] = 0
        positions[:] = np.arange(block_rows)
        lanes[:] = self._scratch
        for index, (lane, block) in enumerate(chains):
            token_ids[index, : block.num_rows] = block.token_ids
            positions[index] += block.slot.length
            lanes[index] = lane
        self._inputs.copy_(self._host, non_blocking=True)


def _is_short_chain(block: Block) -> bool:
    return block.parent is None and block.logits_from == 0 and block.num_rows <= BLOCKS[-1]


def _check(passes: StaticPasses, model: PackedCausalLM) -> None:
    """Raise ReplicaLost when a static and a packed pass after the same text give other logits: it would not be lossless."""
    for num_rows in TRIAL_BLOCKS:
        memory = KvMemory(2 * (TRIAL_TEXT_ROWS + BLOCKS[-1]))
        slots = [memory.open(TRIAL_TEXT_ROWS + BLOCKS[-1]) for _ in range(2)]
        ids = np.arange(TRIAL_TEXT_ROWS + num_rows, dtype=np.int32) % model.vocab_size
        for slot in slots:
            slot.require(TRIAL_TEXT_ROWS + num_rows)
            model.packed_pass([Block(slot, ids[:TRIAL_TEXT_ROWS])])
            slot.length = TRIAL_TEXT_ROWS
        expected = model.packed_pass([Block(slots[0], ids[TRIAL_TEXT_ROWS:])])[0].logits
        for found in passes.decode([Block(slots[1], ids[TRIAL_TEXT_ROWS:])]).values():
            difference, largest = (float(t.abs().max()) for t in (found.logits - expected, expected))
            if not difference <= TOLERANCE[model.dtype] * largest:
                raise ReplicaLost(
                    f"Static passes of {num_rows} rows give logits that differ by {difference:.3g} of {largest:.3g}."
                )
        for slot in slots:
            memory.free(slot)
