"""The door for heads' drafts: a whole chain is drafted on static buffers, as one CUDA graph, and its tokens are read once.

Drafts with penalties or a logit bias take the usual loop. Off CUDA the same is computed without graphs, for tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.models.drafting.chain_draft import ChainDraft
from hedgespec.models.drafting.sampled_chains import (
    ChainSampling,
    chain_sampling,
    complete_chains,
    copy_into,
    neutral_sampling,
    sampled_tokens,
)
from hedgespec.models.eagle3.head_bank import HeadBank
from hedgespec.models.eagle3.head_session import HeadSession
from hedgespec.models.eagle3.layers import Attend
from hedgespec.models.graphs.buckets import Buckets
from hedgespec.models.graphs.captured import Captured
from hedgespec.models.graphs.kv_lanes import KvLanes
from hedgespec.models.graphs.static_attention import StaticAttention
from hedgespec.observability.logging import failure_fields
from hedgespec.types import Method

log = structlog.get_logger(__name__)

USUAL_LENGTHS: tuple[int, ...] = (5,)
USUAL_METHODS: tuple[Method, ...] = ("greedy", "rejection")
"""What is captured when the heads are loaded; other lengths and methods are captured at their first use."""


def use_static_drafts(
    bank: HeadBank, num_lanes: int, capacity: int, advance: Callable[[int], None] = lambda _: None
) -> int:
    """Draft a bank's chains on static buffers from now on.

    num_lanes, capacity: sessions of each head, and their rows. advance: called after each capture with the number of all,
    which is returned
    """
    static = StaticDrafts(bank, num_lanes * bank.num_heads, capacity)
    num_loops = static.capture(bank, advance)
    bank.shortcuts.insert(0, static)
    return num_loops


@dataclass(frozen=True, slots=True)
class ChainShape:
    """The drafts that a loop is captured for: `batch` chains of one head whose rows end before `context`."""

    head_index: int
    batch: int
    num_tokens: int
    context: int
    method: Method


@dataclass(frozen=True, slots=True)
class ChainStart:
    """Where a chain begins.

    row: of its lane that its first step writes; position: of that step; state: [1, hidden], the newest one, from which the
    first token comes
    """

    lane: int
    row: int
    position: int
    state: Tensor


Drawn = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]
"""What `complete_chains` takes."""


class StaticDrafts:
    """A `ChainShortcut` for all heads of a bank."""

    def __init__(self, bank: HeadBank, num_lanes: int, capacity: int) -> None:
        """Allocate lanes. num_lanes: sessions of all heads together; capacity: rows of each"""
        config = bank.config
        like = torch.zeros((1, config.num_kv_heads, 1, config.head_dim), dtype=bank.dtype, device=bank.device)
        self.lanes = KvLanes(num_lanes, capacity, {0: (like, like)})
        self.has_failed = False
        self._buckets = Buckets(num_lanes, capacity)
        self._pool = torch.cuda.graph_pool_handle() if bank.device.type == "cuda" else None
        self._loops: dict[ChainShape, _ChainLoop] = {}
        self._num_positions = max(config.max_positions, capacity)
        bank.passes.require_positions(self._num_positions)

    @torch.inference_mode()
    def capture(self, bank: HeadBank, advance: Callable[[int], None]) -> int:
        """Capture the usual loops for one session at a time; returns their number, with which advance is called after
        each."""
        shapes = [
            ChainShape(head_index, 1, length, context, method)
            for head_index in range(bank.num_heads)
            for context in self._buckets.contexts
            for length in USUAL_LENGTHS
            for method in USUAL_METHODS
            if length <= context
        ]
        for shape in shapes:
            self._loop(bank, shape)
            advance(len(shapes))
        return len(shapes)

    def complete(self, bank: HeadBank, drafts: Sequence[tuple[HeadSession, ChainDraft]]) -> None:
        """Complete the drafts that can be made here, those of one head, length and method together.

        A graph that fails, in a capture or a kernel, is logged and nothing more is drafted here.
        """
        if self.has_failed:
            return
        try:
            self._complete(bank, drafts)
        except RuntimeError as error:  # torch's own
            self.has_failed = True
            log.error("graphs_given_up", **failure_fields(error))

    def _complete(self, bank: HeadBank, drafts: Sequence[tuple[HeadSession, ChainDraft]]) -> None:
        groups: dict[tuple[int, int, Method], list[tuple[ChainStart, ChainDraft]]] = {}
        for session, draft in drafts:
            start = self._start(session, draft)
            if start is not None:
                key = session.owner.index, draft.num_draft_tokens, draft.method
                groups.setdefault(key, []).append((start, draft))
        for (head_index, _, _), members in groups.items():
            own = [draft for _, draft in members]
            complete_chains(own, *self.draft(bank, head_index, [start for start, _ in members], own))

    def _start(self, session: HeadSession, draft: ChainDraft) -> ChainStart | None:
        """Return where a draft begins; None when it is of another kind or finds no lane."""
        state, row = session.newest_state(), session.next_row
        if state is None or draft.is_complete or not draft.can_complete_on_device:
            return None
        if session.newest_pair + draft.num_draft_tokens >= self._num_positions:
            return None
        lane = self.lanes.lane_of(session.slot, row + draft.num_draft_tokens)
        return None if lane is None else ChainStart(lane, row, session.newest_pair + 1, state)

    @torch.inference_mode()
    def draft(
        self, bank: HeadBank, head_index: int, starts: Sequence[ChainStart], drafts: Sequence[ChainDraft]
    ) -> Drawn:
        """Draft the chains of one head, all of the same length and method."""
        num_tokens, method = drafts[0].num_draft_tokens, drafts[0].method
        bucket = self._buckets.smallest(len(starts), 1, max(start.row for start in starts) + num_tokens - 1)
        if bucket is None:
            raise ValueError(f"no bucket for {len(starts)} drafts of {num_tokens} tokens")
        loop = self._loop(bank, ChainShape(head_index, bucket.batch, num_tokens, bucket.context, method))
        return loop.run(starts, None if method == "greedy" else chain_sampling(drafts, torch.device("cpu")))

    def _loop(self, bank: HeadBank, shape: ChainShape) -> _ChainLoop:
        if shape not in self._loops:
            self._loops[shape] = _ChainLoop(shape, bank, self.lanes, self._pool)
        return self._loops[shape]


class _ChainLoop:
    """The draft loop of one shape: its buffers, and what is computed from them."""

    def __init__(self, shape: ChainShape, bank: HeadBank, lanes: KvLanes, pool: object) -> None:
        self._scratch = lanes.scratch
        is_pinned = bank.device.type == "cuda"
        self._host = torch.zeros((3, shape.batch), dtype=torch.int64, pin_memory=is_pinned)
        self._inputs = torch.zeros_like(self._host, device=bank.device)  # lanes, rows, positions
        self._state = torch.zeros((shape.batch, bank.config.hidden_size), dtype=bank.dtype, device=bank.device)
        is_sampled = shape.method != "greedy"
        sampling = neutral_sampling(shape.method, shape.batch, shape.num_tokens, bank.device) if is_sampled else None
        self._sampling = sampling
        first_state, (lane, rows, positions) = self._state, self._inputs  # `compute` must not hold this loop
        counts = bank.counts([(shape.head_index, shape.batch)])
        head = torch.full((shape.batch,), shape.head_index, device=bank.device)
        scale, passes, draft_to_target = bank.config.head_dim**-0.5, bank.passes, bank.draft_to_target

        def choose(state: Tensor, step: int) -> list[Tensor]:
            """Tokens, and ids and probabilities of their distributions, as int32 of one shape but for the last dimension."""
            logits = passes.logits([state], counts)
            if sampling is None:
                return [draft_to_target[head, logits.argmax(dim=-1)].int()[:, None]]
            tokens, ids, probs = sampled_tokens(logits, draft_to_target, head, sampling, step)
            return [tokens.int()[:, None], ids.int(), probs.view(torch.int32)]

        def compute() -> Tensor:
            state, chosen = first_state, choose(first_state, 0)
            steps = [torch.cat(chosen, dim=1)]
            for step in range(shape.num_tokens - 1):
                attend = _attend_with(StaticAttention(lanes, lane, (rows + step)[:, None], shape.context), scale)
                state = passes.layer(chosen[0][:, 0].long(), state, positions + step, attend, counts)
                chosen = choose(state, step + 1)
                steps.append(torch.cat(chosen, dim=1))
            return torch.stack(steps, dim=1)

        self._captured = Captured(compute, bank.device, pool)

    def run(self, starts: Sequence[ChainStart], sampling: ChainSampling | None) -> Drawn:
        """Draft chains. sampling: of these chains, on the CPU; None for greedy ones"""
        num_chains = len(starts)
        host = self._host.numpy()
        host[:] = np.array([[self._scratch], [0], [0]])
        host[:, :num_chains] = np.array([[s.lane, s.row, s.position] for s in starts]).T
        self._inputs.copy_(self._host, non_blocking=True)
        self._state[:num_chains].copy_(torch.cat([start.state for start in starts]))
        if sampling is not None and self._sampling is not None:
            copy_into(self._sampling, sampling)
        found = self._captured()[:num_chains].cpu().numpy()  # the only wait: tokens, ids, and bits of probabilities
        num_ids = (found.shape[2] - 1) // 2
        return found[:, :, 0], found[:, :, 1 : 1 + num_ids], found[:, :, 1 + num_ids :].view(np.float32)


def _attend_with(attention: StaticAttention, scale: float) -> Attend:
    """Attend in a head's only layer, over one row per chain."""

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key, value = (states.transpose(0, 1).unsqueeze(0) for states in (query, key, value))
        return attention.attend(0, query, key, value, scale)[0].transpose(0, 1).flatten(1)

    return attend
