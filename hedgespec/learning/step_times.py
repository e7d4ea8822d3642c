"""Step times are the seconds of recent rounds under the current load, which objective `throughput` weighs losses with.

One object per router serves all answers, since they wait in the same queues. The averages move, so that a change of load
shows within a few dozen rounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hedgespec.learning.experts import Expert

MEMORY = 0.9
"""Share of the old average in the new one: about ten rounds."""


class StepTimes:
    """Moving averages of the seconds of a draft, per drafter and draft length, and of a verify, per draft length."""

    def __init__(self) -> None:
        self._draft_s: dict[str, dict[int, float]] = {}
        self._verify_s: dict[int, float] = {}

    def add(self, drafter_id: str | None, num_draft_tokens: int, draft_s: float, verify_s: float) -> None:
        """Add one round. drafter_id: None without speculation; num_draft_tokens: that were verified in a row."""
        if drafter_id is not None:
            _average(self._draft_s.setdefault(drafter_id, {}), num_draft_tokens, draft_s)
        _average(self._verify_s, num_draft_tokens, verify_s)

    def seconds(self, experts: Sequence[Expert], drafter_ids: Sequence[str]) -> NDArray[np.float64]:
        """[num_experts], the seconds of a round with each expert; all 1 before the first round.

        A length that was not measured is estimated from the measured ones: a draft takes as long per token as the nearest
        length did, a verify as long as the nearest. A drafter that was not measured takes as long as the others on average.
        """
        if not self._verify_s:
            return np.ones(len(experts))
        return np.array([self._round_s(expert, drafter_ids) for expert in experts])

    def _round_s(self, expert: Expert, drafter_ids: Sequence[str]) -> float:
        length = expert.num_draft_tokens if expert.drafter_index is not None else 0
        verify_s = self._verify_s[_nearest(self._verify_s, length)]
        if expert.drafter_index is None:
            return verify_s
        own = self._draft_s.get(drafter_ids[expert.drafter_index])
        measured = [own] if own else list(self._draft_s.values())
        per_token = [times[(near := _nearest(times, length))] / near for times in measured]
        return verify_s + length * float(np.mean(per_token)) if per_token else verify_s


def _average(averages: dict[int, float], key: int, value: float) -> None:
    averages[key] = MEMORY * averages[key] + (1.0 - MEMORY) * value if key in averages else value


def _nearest(times: Mapping[int, float], length: int) -> int:
    """The measured length that is nearest, the shorter one on ties."""
    return min(times, key=lambda measured: (abs(measured - length), measured))
