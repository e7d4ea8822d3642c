"""Exact scores of a head: which starts draft the verified tokens again, and how long each of them is worth it.

A start whose draft has ended is unrolled no further. Its later entries would be weighted by the probability that the
draft gets there: they are 0 instead. At temperature 0 and under `coupled` that probability is 0 after a miss, and nothing
changes; under `rejection` a draft counts as ended below MIN_SURVIVAL, which moves the sum of u by at most that share.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.models.drafting.score_columns import ScoreColumns
from hedgespec.models.eagle3.branches import HeadBranches
from hedgespec.models.eagle3.path import RoundPath
from hedgespec.models.eagle3.session import Eagle3Session

MIN_SURVIVAL = 0.03


class Unrolling:
    """The starts of one session that draft its verified tokens; `columns` holds the first column already."""

    def __init__(self, session: Eagle3Session, columns: ScoreColumns) -> None:
        self._session = session
        self._columns = columns
        observation, text = columns.observation, session.text
        self._first, self._num_prompt = observation.start, text.num_prompt
        self._end = observation.start + len(observation.token_ids)
        is_gap = observation.start != session.scored_until
        if is_gap:
            session.survivals = {}  # nobody follows drafts over a gap
        survivals = session.survivals
        values, overlaps = columns.first_column()
        for row in range(len(values)):
            survivals[self._first + row] = 1.0, 1.0
            self._survive(self._first + row, row, values, overlaps)
        if session.path is not None:
            self._keep_path(session.path, is_gap)
        self._starts = [
            start
            for start in sorted(session.survivals)
            if start < self._end - 1 and self._is_alive(start) and self._pair(start) in session.states
        ]
        states = [session.states[self._pair(start)] for start in self._starts]
        bases = [bisect_right(session.positions, self._pair(start)) for start in self._starts]
        empty = torch.zeros(0)  # never looked at: without starts there is no step
        pairs = [self._pair(start) for start in self._starts]
        stacked = torch.cat(states) if states else empty
        self.branches = HeadBranches(session.slot, bases, stacked, pairs, session.owner.place)

    def keep_for(self, depth: int) -> bool:
        """Go on with the starts whose depth-th token was realised and still matters; False when there are none."""
        if depth > self._columns.depth:
            return False
        reaching = [start + depth - 1 < self._end and self._is_alive(start) for start in self._starts]
        kept = [index for index, is_reaching in enumerate(reaching) if is_reaching]
        self._starts = [self._starts[index] for index in kept]
        if kept and len(kept) < len(self.branches):
            self.branches.keep(kept)
        return bool(kept)

    def next_tokens(self, depth: int) -> list[int]:
        """Of every start, the realised token before its depth-th one."""
        ids = self._session.text.ids
        return [int(ids[self._num_prompt + start + depth - 2]) for start in self._starts]

    def scored_states(self, depth: int) -> Tensor:
        """Of the branches whose depth-th token lies in the observation; earlier ones have their score already."""
        return self.branches.states[self._num_earlier(depth) :]

    def add(self, depth: int, logits: Tensor) -> None:
        scored = self._starts[self._num_earlier(depth) :]
        if not scored:
            return
        values, overlaps = self._columns.add(depth, [start + depth - 1 - self._first for start in scored], logits)
        for index, start in enumerate(scored):
            self._survive(start, index, values, overlaps)

    def _keep_path(self, path: RoundPath, is_gap: bool) -> None:
        """Leave the starts to be unrolled that the drafter's rounds may reach and that its own drafts do not tell about."""
        path.begin(self._first, is_gap=is_gap)
        columns, output_ids = self._columns, self._session.text.ids[self._num_prompt : self._num_prompt + self._end]
        own_hits = path.own_hits(output_ids)
        for start, num_hits in own_hits.items():  # maybe none of it in this observation
            for depth in range(1, columns.depth + 1):
                if self._first <= start + depth - 1 < self._end:
                    columns.put_hit(start + depth - 1 - self._first, depth, depth <= num_hits)
        reachable = path.reachable(self._first, self._end, lambda s: columns.is_hit(s - self._first, 1), own_hits)
        survivals = self._session.survivals
        unknown = (start for start in reachable if start in survivals and start not in own_hits)
        self._session.survivals = {start: survivals[start] for start in unknown}

    def _num_earlier(self, depth: int) -> int:
        """Starts, which rise, whose depth-th token lies before the observation."""
        return bisect_left(self._starts, self._first - depth + 1)

    def _survive(
        self, start: int, index: int, values: NDArray[np.float32], overlaps: NDArray[np.float32] | None
    ) -> None:
        accepted, overlap = self._session.survivals[start]
        gamma = 0.0 if overlaps is None else float(overlaps[index])
        self._session.survivals[start] = accepted * float(values[index]), overlap * gamma

    def _is_alive(self, start: int) -> bool:
        """The products of acceptance_prob matter too to those who asked for it."""
        return max(self._session.survivals[start]) >= MIN_SURVIVAL

    def _pair(self, start: int) -> int:
        return self._num_prompt + start - 2


def forget_complete_starts(session: Eagle3Session, columns: ScoreColumns) -> None:
    """Starts that have ended, that are off the path, or whose drafts reach no further than the observation are of no use to
    later scores."""
    observation, depth = columns.observation, session.text.spec.max_draft_tokens
    first, end = observation.start, observation.start + len(observation.token_ids)
    on_path = None
    if session.path is not None:
        on_path = session.path.follow(first, end, lambda start, d: columns.is_hit(start + d - 1 - first, d))
    session.survivals = {
        start: survival
        for start, survival in session.survivals.items()
        if start + depth > end and max(survival) >= MIN_SURVIVAL and (on_path is None or start in on_path)
    }
