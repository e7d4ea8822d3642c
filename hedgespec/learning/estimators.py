"""The estimators compute, from one answer's scores, each drafter's probability of starting a round at every position.

`acceptance[i, p, j - 1]` is a of drafter i at position p and depth j: the probability that its j-th draft token of a
round starting at p - j + 1 is accepted and equals the realised token, given that the earlier ones were.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class RoundsCursor:
    """The cursor says where each drafter, used alone, would be within a round at the next position.

    survivors: [num_drafters, max_draft_tokens + 1]; entry [i, d] is the probability that drafter i would be inside a
        round with d draft tokens accepted so far; entry [i, 0] is u of the next position: that a round starts there.
        Each row sums to 1
    """

    survivors: Floats

    @staticmethod
    def start(num_drafters: int, max_draft_tokens: int) -> RoundsCursor:
        """Every drafter starts a round at the first position: u_0 = 1."""
        survivors = np.zeros((num_drafters, max_draft_tokens + 1))
        survivors[:, 0] = 1.0
        return RoundsCursor(survivors)


def advance(cursor: RoundsCursor, acceptance: Floats, awake: Mask | None = None) -> tuple[RoundsCursor, Floats]:
    """Move over verified positions; the sum of u over an answer is the expected number of target passes.

    acceptance: [num_drafters, num_positions, max_draft_tokens]
    awake: [num_drafters, num_positions], False where a drafter has no scores (its acceptance there is not used): it is
        put back to u = 1, as if it started afresh after the gap
    Returns the new cursor and u [num_positions + 1, num_drafters] of the positions passed and of the next one.
    """
    num_drafters, num_positions, max_draft_tokens = acceptance.shape
    # drafters last: every operation below is then one run over contiguous memory
    by_position = np.ascontiguousarray(acceptance.transpose(1, 2, 0))
    survivors = np.empty((num_positions + 1, max_draft_tokens + 1, num_drafters))
    survivors[0] = cursor.survivors.T
    gaps = None if awake is None or awake.all() else ~awake.T
    for position in range(num_positions):
        after = survivors[position + 1]
        accepted = np.multiply(survivors[position, :max_draft_tokens], by_position[position], out=after[1:])
        # what is not accepted ends its round here; so does a full draft, whose bonus token this position is
        np.subtract(1.0, accepted.sum(axis=0), out=after[0])
        if gaps is not None:
            after[:, gaps[position]] = np.eye(max_draft_tokens + 1, 1)
    # the subtraction above can leave the interval by a rounding error, and learners refuse that
    return RoundsCursor(survivors[-1].T.copy()), np.clip(survivors[:, 0], 0.0, 1.0)


def start_diagonals(by_position: Floats) -> Floats:
    """Regroup by the round's start: [num_drafters, num_positions, depth] -> [num_drafters, num_starts, depth].

    Entry [i, s, j - 1] belongs to the round starting at position s; starts without all their positions are left out.
    """
    _, num_positions, depth = by_position.shape
    starts = np.arange(max(num_positions - depth + 1, 0))[:, None]
    depths = np.arange(depth)
    diagonals: Floats = by_position[:, starts + depths, depths]
    return diagonals


def expected_length(acceptance: Floats, acceptance_prob: Floats) -> Floats:
    """Tokens emitted per pass from a start, 1 + sum_k (prod_{j<k} a_j) acceptance_prob_k: unbiased over the trajectory.

    Both [..., depth] along a start's diagonal; returns [...].
    """
    before = np.ones_like(acceptance)
    before[..., 1:] = np.cumprod(acceptance[..., :-1], axis=-1)
    lengths: Floats = 1.0 + (before * acceptance_prob).sum(axis=-1)
    return lengths


def length_product(acceptance_prob: Floats) -> Floats:
    """1 + sum_k prod_{j<=k} acceptance_prob_j, the form of Liu et al. 2025: less variance, but biased above temperature 0.

    acceptance_prob: [..., depth] along a start's diagonal; returns [...].
    """
    lengths: Floats = 1.0 + np.cumprod(acceptance_prob, axis=-1).sum(axis=-1)
    return lengths
