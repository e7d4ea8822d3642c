"""What a loss means: one small class per objective turns closed positions into loss vectors (DESIGN 5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from hedgespec.speculative.estimators import Floats, Mask, expected_length, start_diagonals
from hedgespec.types import Objective

Losses = list[tuple[Floats, Mask]]
"""Loss vectors for the learner: losses [num_drafters] in [0, 1] and who is awake [num_drafters]."""


class ObjectiveLosses(Protocol):
    """One answer's loss vectors under one objective."""

    needs_acceptance_prob: bool

    def close(self, round_starts: Floats, acceptance: Floats, acceptance_prob: Floats, awake: Mask) -> Losses:
        """The loss vectors that these further positions complete, in order.

        round_starts: [num_positions, num_drafters], u of the position after each of them
        acceptance, acceptance_prob: [num_drafters, num_positions, depth]; awake: [num_drafters, num_positions]
        """
        ...


class RoundsLosses:
    """Loss u of the next position: the probability that a round would start there."""

    needs_acceptance_prob = False

    def __init__(self, max_draft_tokens: int) -> None:
        pass

    def close(self, round_starts: Floats, acceptance: Floats, acceptance_prob: Floats, awake: Mask) -> Losses:
        return _vectors(round_starts.T, awake)


class AcceptanceLosses:
    """Loss 1 - gamma at depth 1."""

    needs_acceptance_prob = True

    def __init__(self, max_draft_tokens: int) -> None:
        self._max_draft_tokens = max_draft_tokens

    def close(self, round_starts: Floats, acceptance: Floats, acceptance_prob: Floats, awake: Mask) -> Losses:
        if self._max_draft_tokens == 0:
            return []
        return _vectors(1.0 - acceptance_prob[:, :, 0], awake)


class LengthLosses:
    """Loss 1 - L / (K + 1) of each start, when its K positions have closed; the last K - 1 starts never are."""

    needs_acceptance_prob = True

    def __init__(self, max_draft_tokens: int) -> None:
        self._max_draft_tokens = max_draft_tokens
        self._waiting: tuple[Floats, Floats, Mask] | None = None  # the last K - 1 closed positions

    def close(self, round_starts: Floats, acceptance: Floats, acceptance_prob: Floats, awake: Mask) -> Losses:
        depth = self._max_draft_tokens
        if depth == 0:
            return []
        if self._waiting is not None:
            acceptance = np.concatenate([self._waiting[0], acceptance], axis=1)
            acceptance_prob = np.concatenate([self._waiting[1], acceptance_prob], axis=1)
            awake = np.concatenate([self._waiting[2], awake], axis=1)
        keep = slice(max(awake.shape[1] - depth + 1, 0), None)
        self._waiting = acceptance[:, keep], acceptance_prob[:, keep], awake[:, keep]
        lengths = expected_length(start_diagonals(acceptance), start_diagonals(acceptance_prob))
        present = start_diagonals(np.repeat(awake[:, :, None], depth, axis=2).astype(np.float64)).min(axis=2) > 0
        return _vectors(1.0 - lengths / (depth + 1), present)


OBJECTIVES: dict[Objective, Callable[[int], ObjectiveLosses]] = {
    "rounds": RoundsLosses,
    "acceptance": AcceptanceLosses,
    "length": LengthLosses,
}
"""Objective -> constructor, which takes max_draft_tokens."""


def _vectors(losses: Floats, awake: Mask) -> Losses:
    """Both [num_drafters, num_positions]; positions that nobody scored are no evidence and are left out.

    An estimate above its range makes a negative loss. Learners look at differences only, so such a vector is lifted
    as a whole, which keeps it unbiased; what is then above 1 is clipped.
    """
    lifted = losses - np.minimum(np.where(awake, losses, 0.0).min(axis=0), 0.0)
    bounded = np.clip(lifted, 0.0, 1.0)
    return [(bounded[:, k], awake[:, k]) for k in range(losses.shape[1]) if awake[:, k].any()]
