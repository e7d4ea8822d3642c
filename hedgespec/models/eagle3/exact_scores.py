"""Exact scores of later draft tokens come from drafting again from every position that matters.

A start whose draft has ended is unrolled no further. Its later entries would be weighted by the probability that the
draft gets there: they are 0 instead. At temperature 0 and under `coupled` that probability is 0 after a miss, and nothing
changes; under `rejection` a draft counts as ended below MIN_SURVIVAL, which moves the sum of u by at most that share.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Generator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.models.drafting.score_columns import ScoreColumns
from hedgespec.models.eagle3.head_bank import HeadBank
from hedgespec.models.eagle3.head_branches import HeadBranches
from hedgespec.models.eagle3.head_session import HeadSession
from hedgespec.models.eagle3.own_rounds import OwnRounds

MIN_SURVIVAL = 0.03


def add_deeper(bank: HeadBank, columns: Sequence[tuple[HeadSession, ScoreColumns]]) -> Generator[None]:
    """Add the columns of depth 2, 3, ... to scores by start; yield between passes.

    All starts of all sessions take each step in one pass. Logits are computed only where a token is scored.
    """
    active = [Unrolling(session, own) for session, own in columns]
    for depth in range(2, max((own.depth for _, own in columns), default=0) + 1):
        active = [unrolling for unrolling in active if unrolling.keep_for(depth)]
        if not active:
            break
        yield
        bank.follow([(u.branches, list(range(len(u.branches))), u.next_tokens(depth)) for u in active])
        scored = [u.scored_states(depth) for u in active]
        sizes = [len(states) for states in scored]
        counts = bank.counts([(u.branches.head_index, size) for u, size in zip(active, sizes, strict=True)])
        for unrolling, logits in zip(active, bank.logits(scored, counts).split(sizes), strict=True):
            unrolling.add(depth, logits)
    for session, own in columns:
        forget_complete_starts(session, own)


class Unrolling:
    """The starts of one session that draft its verified tokens; `columns` holds the first column already."""

    def __init__(self, session: HeadSession, columns: ScoreColumns) -> None:
        self._session = session
        self._columns = columns
        observation, text = columns.observation, session.text
        self._first, self._num_prompt = observation.start, text.num_prompt
        self._end = observation.start + len(observation.token_ids)
        is_gap = observation.start != session.scored_until
        if is_gap:
            session.survivals = {}  # drafts are not followed over a gap
        survivals = session.survivals
        values, acceptance_probs = columns.first_column()
        for row in range(len(values)):
            survivals[self._first + row] = 1.0, 1.0
            self._survive(self._first + row, row, values, acceptance_probs)
        if session.own_rounds is not None:
            self._keep_reachable(session.own_rounds, is_gap)
        self._starts = [
            start
            for start in sorted(session.survivals)
            if start < self._end - 1 and self._is_alive(start) and self._pair(start) in session.states
        ]
        states = [session.states[self._pair(start)] for start in self._starts]
        bases = [bisect_right(session.positions, self._pair(start)) for start in self._starts]
        pairs = [self._pair(start) for start in self._starts]
        stacked = torch.cat(states) if states else torch.zeros(0)  # without starts there is no step
        self.branches = HeadBranches(session.slot, bases, stacked, pairs, session.owner.index)

    def keep_for(self, depth: int) -> bool:
        """Go on with the starts whose depth-th token was realised and still matters; return False when there are none."""
        if depth > self._columns.depth:
            return False
        reaching = [start + depth - 1 < self._end and self._is_alive(start) for start in self._starts]
        kept = [index for index, is_reaching in enumerate(reaching) if is_reaching]
        self._starts = [self._starts[index] for index in kept]
        if kept and len(kept) < len(self.branches):
            self.branches.keep(kept)
        return bool(kept)

    def next_tokens(self, depth: int) -> list[int]:
        """Return, for every start, the realised token before its depth-th one."""
        ids = self._session.text.ids
        return [int(ids[self._num_prompt + start + depth - 2]) for start in self._starts]

    def scored_states(self, depth: int) -> Tensor:
        """Return the states of branches whose depth-th token lies in the observation; earlier ones were scored before."""
        return self.branches.states[self._num_earlier(depth) :]

    def add(self, depth: int, logits: Tensor) -> None:
        """Score the depth-th tokens. logits: of `scored_states`"""
        scored = self._starts[self._num_earlier(depth) :]
        if not scored:
            return
        values, acceptance_probs = self._columns.add(
            depth, [start + depth - 1 - self._first for start in scored], logits
        )
        for index, start in enumerate(scored):
            self._survive(start, index, values, acceptance_probs)

    def _keep_reachable(self, rounds: OwnRounds, is_gap: bool) -> None:
        """Unroll only the starts that the drafter's rounds may reach and that its own drafts do not settle."""
        rounds.begin(self._first, is_gap=is_gap)
        columns, output_ids = self._columns, self._session.text.ids[self._num_prompt : self._num_prompt + self._end]
        own_hits = rounds.own_hits(output_ids)
        for start, num_hits in own_hits.items():  # maybe none of it in this observation
            for depth in range(1, columns.depth + 1):
                if self._first <= start + depth - 1 < self._end:
                    columns.put_hit(start + depth - 1 - self._first, depth, depth <= num_hits)
        reachable = rounds.reachable(self._first, self._end, lambda s: columns.is_hit(s - self._first, 1), own_hits)
        survivals = self._session.survivals
        unknown = (start for start in reachable if start in survivals and start not in own_hits)
        self._session.survivals = {start: survivals[start] for start in unknown}

    def _num_earlier(self, depth: int) -> int:
        """Return how many starts, which rise, have their depth-th token before the observation."""
        return bisect_left(self._starts, self._first - depth + 1)

    def _survive(
        self, start: int, index: int, values: NDArray[np.float32], acceptance_probs: NDArray[np.float32] | None
    ) -> None:
        accepted, acceptance_prob = self._session.survivals[start]
        own_prob = 0.0 if acceptance_probs is None else float(acceptance_probs[index])
        self._session.survivals[start] = accepted * float(values[index]), acceptance_prob * own_prob

    def _is_alive(self, start: int) -> bool:
        """Where acceptance_prob was asked for, its product matters too."""
        return max(self._session.survivals[start]) >= MIN_SURVIVAL

    def _pair(self, start: int) -> int:
        return self._num_prompt + start - 2


def forget_complete_starts(session: HeadSession, columns: ScoreColumns) -> None:
    """Forget starts of no use to later scores: they have ended, are not of the drafter's own rounds, or reach no further."""
    observation, depth = columns.observation, session.text.spec.max_draft_tokens
    first, end = observation.start, observation.start + len(observation.token_ids)
    own = None
    if session.own_rounds is not None:
        own = session.own_rounds.follow(first, end, lambda start, d: columns.is_hit(start + d - 1 - first, d))
    session.survivals = {
        start: survival
        for start, survival in session.survivals.items()
        if start + depth > end and max(survival) >= MIN_SURVIVAL and (own is None or start in own)
    }
