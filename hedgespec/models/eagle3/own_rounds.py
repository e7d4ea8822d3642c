"""Own rounds are the positions where a head's own rounds would have started; only these need exact scores.

At temperature 0 and under `coupled` a draft's token is accepted or it is not, so the rounds that a drafter would have had
lead through the text in one way, and the objective `rounds` reads only the scores of their starts. A draft of its own that
the target has verified settles its start's scores, and a start that the rounds cannot reach need not be unrolled. The
leader drafts in most rounds: its scores then take one pass instead of five.

The rounds begin again with every span of scores, as the router's sum of u does after a gap (`estimators.advance`). Where
the router gives a late drafter up in the middle of a span, it reads zeros, hence too many rounds, until its sum meets a
start of these rounds or of one of the drafter's own drafts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

MAX_DRAFTS = 64
"""Drafts per session; older ones are forgotten."""


class OwnRounds:
    """The rounds that one drafter would have had in one session. length: of a draft. All positions are output indices."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._starts: set[int] = set()  # of rounds that end behind the scored text
        self._drafts: dict[int, list[int]] = {}

    def drafted(self, start: int, token_ids: list[int]) -> None:
        """Keep a draft that was proposed at the end of the text. Shorter drafts than usual say too little."""
        if len(token_ids) == self._length:
            self._drafts[start] = token_ids
            if len(self._drafts) > MAX_DRAFTS:
                del self._drafts[min(self._drafts)]

    def begin(self, first: int, *, is_gap: bool) -> None:
        """Begin the scores from `first` on; is_gap: what is before it was not scored."""
        self._starts = {first} if is_gap else self._starts | {first}

    def own_hits(self, output_ids: NDArray[np.int32]) -> dict[int, int]:
        """Return start -> how many tokens of its draft were accepted so far."""
        hits = {}
        for start, draft in self._drafts.items():
            realised = output_ids[start : start + self._length].tolist()
            hits[start] = next(
                (i for i, (a, b) in enumerate(zip(draft, realised, strict=False)) if a != b), len(realised)
            )
        return hits

    def reachable(self, first: int, end: int, is_hit: Callable[[int], bool], own_hits: Mapping[int, int]) -> list[int]:
        """Return the starts before `end` that the rounds may reach, rising.

        is_hit: whether the first token of a start from `first` on is accepted; how far its draft goes on is not known,
            unless the drafter has drafted there (own_hits)
        """
        reached = set(self._starts)
        for start in range(min(reached), end):
            if start not in reached:
                continue
            if start in own_hits:
                reached.add(start + own_hits[start] + 1)
            elif start >= first and not is_hit(start):
                reached.add(start + 1)
            else:
                reached.update(range(max(start + 1, first) + 1, start + self._length + 2))
        return sorted(start for start in reached if start < end)

    def follow(self, first: int, end: int, is_accepted: Callable[[int, int], bool]) -> set[int]:
        """Walk to the end of positions [first, end), whose scores are complete; keep and return the starts whose rounds go
        on behind them.

        is_accepted: (start, depth from 1 on) of a token in the span
        """
        kept = set()
        for start in self._starts:
            while start < end:
                following = self._next(start, first, end, is_accepted)
                if following is None:
                    break
                start = following
            kept.add(start)
        self._starts = kept
        self._drafts = {s: draft for s, draft in self._drafts.items() if s + self._length > end or s in kept}
        return kept

    def _next(self, start: int, first: int, end: int, is_accepted: Callable[[int, int], bool]) -> int | None:
        """Return the start of the next round; None when this start's round ends behind the span."""
        for depth in range(1, self._length + 1):
            position = start + depth - 1
            if position >= end:
                return None
            if position >= first and not is_accepted(start, depth):
                return position + 1
        return start + self._length + 1
