"""Greedy chains of a head on static buffers: the whole draft loop is one CUDA graph, its tokens are read once, at its end.

Sampled drafts need noise that is made on the host for the ids that are left, one step after the other; they take the usual
loop, as do drafts with penalties or a logit bias. Off CUDA the same passes can be computed without graphs, for tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.models.buckets import Buckets
from hedgespec.models.drafting.proposing import DraftInProgress
from hedgespec.models.eagle3.bank import HeadBank
from hedgespec.models.eagle3.passes import attend_with
from hedgespec.models.eagle3.session import Eagle3Session
from hedgespec.models.memory.kv_lanes import KvLanes
from hedgespec.models.memory.static_attention import StaticAttention
from hedgespec.models.replay import Replay
from hedgespec.observability.logging import failure_fields

log = structlog.get_logger(__name__)

USUAL_LENGTHS = (5,)
"""Draft lengths whose graphs are captured when the head is loaded; those of others at their first use."""


@dataclass(frozen=True, slots=True)
class DraftStart:
    """Where a chain begins. row: of its lane that its first step writes; position: of that step; state: [1, hidden], the
    newest one, from which the first token comes."""

    lane: int
    row: int
    position: int
    state: Tensor


class StaticDrafts:
    """Of all heads of a bank."""

    def __init__(self, bank: HeadBank, num_lanes: int, capacity: int) -> None:
        """num_lanes: sessions of all heads together; capacity: rows of each."""
        config = bank.config
        like = torch.zeros((1, config.num_kv_heads, 1, config.head_dim), dtype=bank.dtype, device=bank.device)
        self.lanes = KvLanes(num_lanes, capacity, {0: (like, like)})
        self._buckets = Buckets(num_lanes, capacity)
        self._bank = bank
        self._pool = torch.cuda.graph_pool_handle() if bank.device.type == "cuda" else None
        self._loops: dict[_Shape, _DraftLoop] = {}
        self.has_failed = False
        self._num_positions = max(config.max_positions, capacity)
        bank.require_positions(self._num_positions)

    @torch.inference_mode()
    def capture(self, advance: Callable[[int], None], lengths: Sequence[int] = USUAL_LENGTHS) -> int:
        """Make the loops of these lengths for one session at a time; the number of them, with which advance is called after
        each."""
        shapes = [
            _Shape(place, 1, length, context)
            for place in range(self._bank.num_heads)
            for context in self._buckets.contexts
            for length in lengths
            if length <= context
        ]
        for shape in shapes:
            self._loop(shape)
            advance(len(shapes))
        return len(shapes)

    def complete(self, drafts: Sequence[tuple[Eagle3Session, DraftInProgress]]) -> None:
        """Complete the drafts that can be made here, those of one head and length together.

        A graph that fails, in a capture or a kernel, is logged and nothing more is drafted here.
        """
        if self.has_failed:
            return
        try:
            self._complete(drafts)
        except RuntimeError as error:  # torch's own
            self.has_failed = True
            log.error("graphs_given_up", **failure_fields(error))

    def _complete(self, drafts: Sequence[tuple[Eagle3Session, DraftInProgress]]) -> None:
        groups: dict[tuple[int, int], list[tuple[DraftStart, DraftInProgress]]] = {}
        for session, draft in drafts:
            start = self._start(session, draft)
            if start is not None:
                groups.setdefault((session.owner.place, draft.num_draft_tokens), []).append((start, draft))
        for (place, num_tokens), members in groups.items():
            chains = self.draft(place, [start for start, _ in members], num_tokens)
            for (_, draft), chain in zip(members, chains.tolist(), strict=True):
                draft.token_ids += chain

    def _start(self, session: Eagle3Session, draft: DraftInProgress) -> DraftStart | None:
        """None when the draft is another kind, or finds no lane."""
        state, row = session.newest_state(), session.slot.length + len(session.tail)
        if state is None or draft.is_complete or not draft.is_plainly_greedy:
            return None
        if session.newest_pair + draft.num_draft_tokens >= self._num_positions:
            return None
        lane = self.lanes.lane_of(session.slot, row + draft.num_draft_tokens)
        return None if lane is None else DraftStart(lane, row, session.newest_pair + 1, state)

    @torch.inference_mode()
    def draft(self, place: int, starts: Sequence[DraftStart], num_tokens: int) -> NDArray[np.int64]:
        """Drafts of one head, all of the same length: [num_starts, num_tokens] ids of the target."""
        bucket = self._buckets.smallest(len(starts), 1, max(start.row for start in starts) + num_tokens - 1)
        if bucket is None:
            raise ValueError(f"no bucket for {len(starts)} drafts of {num_tokens} tokens")
        return self._loop(_Shape(place, bucket.batch, num_tokens, bucket.context)).run(starts)

    def _loop(self, shape: _Shape) -> _DraftLoop:
        if shape not in self._loops:
            self._loops[shape] = _DraftLoop(shape, self._bank, self.lanes, self._pool)
        return self._loops[shape]


@dataclass(frozen=True, slots=True)
class _Shape:
    place: int
    batch: int
    num_tokens: int
    context: int


class _DraftLoop:
    def __init__(self, shape: _Shape, bank: HeadBank, lanes: KvLanes, pool: object) -> None:
        self._scratch = lanes.scratch
        self._host = torch.zeros((3, shape.batch), dtype=torch.int64, pin_memory=bank.device.type == "cuda")
        self._inputs = torch.zeros_like(self._host, device=bank.device)  # lanes, rows, positions
        self._state = torch.zeros((shape.batch, bank.config.hidden_size), dtype=bank.dtype, device=bank.device)
        lane, rows, positions = self._inputs
        counts = [shape.batch if place == shape.place else 0 for place in range(bank.num_heads)]
        scale, targets = bank.config.head_dim**-0.5, bank.draft_to_target[shape.place]

        def compute() -> Tensor:
            state, tokens = self._state, [targets[bank.logits(self._state, counts).argmax(dim=-1)]]
            for step in range(shape.num_tokens - 1):
                attention = StaticAttention(lanes, lane, (rows + step)[:, None], shape.context)
                attend = attend_with(attention, scale)
                state = bank.step(bank.embed(tokens[-1]), state, positions + step, attend, counts)
                tokens.append(targets[bank.logits(state, counts).argmax(dim=-1)])
            return torch.stack(tokens, dim=1)

        self._replay = Replay(compute, bank.device, pool)

    def run(self, starts: Sequence[DraftStart]) -> NDArray[np.int64]:
        host = self._host.numpy()
        host[:] = np.array([[self._scratch], [0], [0]])
        host[:, : len(starts)] = np.array([[s.lane, s.row, s.position] for s in starts]).T
        self._inputs.copy_(self._host, non_blocking=True)
        self._state[: len(starts)].copy_(torch.cat([start.state for start in starts]))
        tokens: NDArray[np.int64] = self._replay()[: len(starts)].cpu().numpy()
        return tokens
