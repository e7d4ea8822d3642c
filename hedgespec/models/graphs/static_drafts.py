"""Chains of heads on static buffers: the whole draft loop is one CUDA graph, see `chain_replay`.

Drafts with penalties or a logit bias take the usual loop. Off CUDA the same passes are computed without graphs, for tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog
import torch

from hedgespec.models.cpu.whole_chains import fill_sampled, sampled_shape
from hedgespec.models.drafting.proposing import DraftInProgress
from hedgespec.models.eagle3.bank import HeadBank
from hedgespec.models.eagle3.session import Eagle3Session
from hedgespec.models.graphs.buckets import Buckets
from hedgespec.models.graphs.chain_replay import ChainReplay, Chains, ChainShape, ChainStart
from hedgespec.models.graphs.kv_lanes import KvLanes
from hedgespec.observability.logging import failure_fields
from hedgespec.types import Method

log = structlog.get_logger(__name__)

USUAL_LENGTHS: tuple[int, ...] = (5,)
USUAL_METHODS: tuple[Method, ...] = ("greedy", "rejection")
"""What graphs are captured for when the head is loaded; those of other lengths and methods are at their first use."""

Member = tuple[ChainStart, DraftInProgress]


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
        self._loops: dict[ChainShape, ChainReplay] = {}
        self.has_failed = False
        self._num_positions = max(config.max_positions, capacity)
        bank.require_positions(self._num_positions)

    @torch.inference_mode()
    def capture(self, advance: Callable[[int], None], lengths: Sequence[int] = USUAL_LENGTHS) -> int:
        """Make the loops of these lengths for one session at a time; the number of them, with which advance is called after
        each."""
        shapes = [
            ChainShape(place, 1, length, context, method)
            for place in range(self._bank.num_heads)
            for context in self._buckets.contexts
            for length in lengths
            for method in USUAL_METHODS
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
        groups: dict[tuple[int, int, Method], list[Member]] = {}
        for session, draft in drafts:
            start = self._start(session, draft)
            if start is not None:
                key = session.owner.place, draft.num_draft_tokens, draft.method
                groups.setdefault(key, []).append((start, draft))
        for (place, num_tokens, method), members in groups.items():
            own = [draft for _, draft in members]
            chains = self.draft(place, members, num_tokens, method)
            if method == "greedy":
                for draft, chain in zip(own, chains.tokens.tolist(), strict=True):
                    draft.token_ids += chain
            else:
                fill_sampled(own, chains.tokens, chains.ids, chains.probs)

    def _start(self, session: Eagle3Session, draft: DraftInProgress) -> ChainStart | None:
        """None when the draft is another kind, or finds no lane."""
        state, row = session.newest_state(), session.slot.length + len(session.tail)
        if state is None or draft.is_complete or not draft.is_plain:
            return None
        if session.newest_pair + draft.num_draft_tokens >= self._num_positions:
            return None
        lane = self.lanes.lane_of(session.slot, row + draft.num_draft_tokens)
        return None if lane is None else ChainStart(lane, row, session.newest_pair + 1, state)

    @torch.inference_mode()
    def draft(self, place: int, members: Sequence[Member], num_tokens: int, method: Method) -> Chains:
        """Drafts of one head, all of the same length and method."""
        starts = [start for start, _ in members]
        bucket = self._buckets.smallest(len(starts), 1, max(start.row for start in starts) + num_tokens - 1)
        if bucket is None:
            raise ValueError(f"no bucket for {len(starts)} drafts of {num_tokens} tokens")
        loop = self._loop(ChainShape(place, bucket.batch, num_tokens, bucket.context, method))
        return loop.run(starts, None if method == "greedy" else sampled_shape([draft for _, draft in members]))

    def _loop(self, shape: ChainShape) -> ChainReplay:
        if shape not in self._loops:
            self._loops[shape] = ChainReplay(shape, self._bank, self.lanes, self._pool)
        return self._loops[shape]
