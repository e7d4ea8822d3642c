"""Where a head's rounds start: of exact scores the objective `rounds` reads only those of starts that its rounds reach.

At temperature 0 and under `coupled` a draft's token is accepted or it is not, so the rounds that a drafter would have had
are one path through the text. A draft of its own that the target has verified tells all about its start, and a start that
the path cannot reach need not be unrolled. The leader drafts in most rounds: its scores then take one pass instead of five.

The path begins again with every span of scores, as the router's sum of u does after a gap (`estimators.advance`). Where the
router gives a late drafter up in the middle of a span, it reads zeros, hence too many rounds, until its sum meets a start on
the path or one of the drafter's own drafts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

MAX_DRAFTS = 64
"""Drafts per session; older ones are forgotten."""


class RoundPath:
    """Of one session. length: of a draft, all positions are output indices."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._starts: set[int] = set()  # on the path, with a round that ends behind the scored text
        self._drafts: dict[int, list[int]] = {}

    def drafted(self, start: int, token_ids: list[int]) -> None:
        """The drafter has proposed these tokens at the end of its text. Shorter drafts than usual tell too little."""
        if len(token_ids) == self._length:
            self._drafts[start] = token_ids
            if len(self._drafts) > MAX_DRAFTS:
                del self._drafts[min(self._drafts)]

    def begin(self, first: int, *, is_gap: bool) -> None:
        """The next scores begin at `first`; is_gap: what is before it was not scored."""
        self._starts = {first} if is_gap else self._starts | {first}

    def own_hits(self, output_ids: NDArray[np.int32]) -> dict[int, int]:
        """Start -> how many tokens of its draft there were accepted so far."""
        hits = {}
        for start, draft in self._drafts.items():
            realised = output_ids[start : start + self._length].tolist()
            hits[start] = next(
                (i for i, (a, b) in enumerate(zip(draft, realised, strict=False)) if a != b), len(realised)
            )
        return hits

    def reachable(self, first: int, end: int, is_hit: Callable[[int], bool], own_hits: Mapping[int, int]) -> list[int]:
        """Starts before `end` that the path may reach, rising. is_hit: of a start from `first` on, whether its first token
        is accepted; what follows is known only where the drafter drafted itself."""
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
        """All scores of positions [first, end) are known: walk to the end of them, keep the starts whose rounds go on.

        is_accepted: (start, depth from 1 on), of a token in the span. Returns what is kept.
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
        """The start after this one; None when this one's round ends behind the span."""
        for depth in range(1, self._length + 1):
            position = start + depth - 1
            if position >= end:
                return None
            if position >= first and not is_accepted(start, depth):
                return position + 1
        return start + self._length + 1
