"""Selection chooses which drafters propose in the next round, and how much."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hedgespec.learning.protocol import AnswerLearning
from hedgespec.speculative.noise import Purpose, uniform


@dataclass(frozen=True, slots=True)
class Choice:
    """One drafter's task in a round. num_nodes: 0 is num_draft_tokens times the form's branching."""

    drafter_index: int
    num_draft_tokens: int
    num_nodes: int = 0


Choices = tuple[Choice, ...]
"""Empty: no speculation. Several, heaviest first: their drafts are merged."""


@dataclass(frozen=True, slots=True)
class DraftLimits:
    """What one round may propose.

    num_draft_tokens: in a row, at least 1; num_nodes: of all drafters together, 0: the form's own; branching: the form's;
    num_drafters: that may draft at the same time
    """

    num_draft_tokens: int
    num_nodes: int = 0
    branching: int = 1
    num_drafters: int = 1


class Selection(Protocol):
    """Chooses the drafters of one answer, round by round."""

    def choose(self, round_index: int, available: Sequence[bool], limits: DraftLimits) -> Choices:
        """Choose among the drafters with available[index].

        The choice may depend on the past only: a look at this round's noise would bias the text.
        """
        ...


class LearnedSelection:
    """Follows the learner's weights over the experts that are available.

    follow: `sample` draws, as the regret bound assumes; `leader` takes the largest weight. Drafters that are merged are
    those with the largest weights, whatever `follow` says.
    """

    def __init__(
        self, learning: AnswerLearning, noise_seed: int, follow: Literal["sample", "leader"] = "sample"
    ) -> None:
        self._learning = learning
        self._noise_seed = noise_seed
        self._follow = follow
        # -1 is no speculation, which is always available: `choose` appends that to the drafters that are
        self._drafter_of = [-1 if e.drafter_index is None else e.drafter_index for e in learning.experts]

    def choose(self, round_index: int, available: Sequence[bool], limits: DraftLimits) -> Choices:
        # plain numbers: between two rounds every NumPy call costs more than the sums over so few experts
        usable = [*self._learning.awake(available).tolist(), True]
        mask = [usable[index] for index in self._drafter_of]
        if not any(mask):
            return ()
        weights = _masked(self._learning.expert_weights, mask)
        if sum(weights) <= 0.0:  # the learner has given up all drafters that are left: fall back to the prior
            weights = _masked(self._learning.expert_prior, mask)
        if limits.num_drafters > 1:
            return _merged(np.array(weights), limits)
        leads = self._follow == "leader"
        index = weights.index(max(weights)) if leads else draw(weights, self._noise_seed, round_index)
        expert = self._learning.experts[index]
        if expert.drafter_index is None:
            return ()
        num_draft_tokens = min(expert.num_draft_tokens, limits.num_draft_tokens)
        return (Choice(expert.drafter_index, num_draft_tokens, limits.num_nodes),)


class FixedSelection:
    """Always chooses a pinned drafter, or none at all."""

    def __init__(self, index: int | None) -> None:
        self._index = index

    def choose(self, round_index: int, available: Sequence[bool], limits: DraftLimits) -> Choices:
        if self._index is None or not available[self._index]:
            return ()
        return (Choice(self._index, limits.num_draft_tokens, limits.num_nodes),)


class RandomSelection:
    """Chooses a drafter at random each round: the baseline that learns nothing, and the hardest test of catching up."""

    def __init__(self, noise_seed: int) -> None:
        self._noise_seed = noise_seed

    def choose(self, round_index: int, available: Sequence[bool], limits: DraftLimits) -> Choices:
        if not any(available):
            return ()
        index = draw([float(is_there) for is_there in available], self._noise_seed, round_index)
        return (Choice(index, limits.num_draft_tokens, limits.num_nodes),)


def draw(weights: Sequence[float], noise_seed: int, round_index: int) -> int:
    """Inverse-CDF draw with the session's own counter-based randomness, independent of all sampling noise."""
    cumulative = list(accumulate(weights))
    u = uniform(noise_seed, round_index, Purpose.SELECT)
    last = max(index for index, weight in enumerate(weights) if weight)
    return min(bisect_right(cumulative, u * cumulative[-1]), last)


def _masked(weights: NDArray[np.float64], mask: Sequence[bool]) -> list[float]:
    return [weight if is_usable else 0.0 for weight, is_usable in zip(weights.tolist(), mask, strict=True)]


def _merged(weights: NDArray[np.float64], limits: DraftLimits) -> Choices:
    """weights: [num_drafters]; experts are drafters where drafts are merged."""
    heaviest = [int(i) for i in np.argsort(-weights, kind="stable")[: limits.num_drafters] if weights[i] > 0.0]
    alone = limits.num_draft_tokens * limits.branching
    nodes = limits.num_nodes or alone
    # a chain cannot use more nodes than it is long; a tree can
    capacity = limits.num_draft_tokens if limits.branching == 1 else nodes
    shares = split_nodes([float(weights[i]) for i in heaviest], nodes, capacity)
    return tuple(
        Choice(index, min(limits.num_draft_tokens, share), share)
        for index, share in zip(heaviest, shares, strict=True)
        if share > 0
    )


def split_nodes(weights: Sequence[float], num_nodes: int, capacity: int) -> list[int]:
    """Nodes per drafter, in proportion to the weights, as many as there are or as the drafters can use.

    weights: positive, heaviest first; capacity: nodes that one drafter can use at most, its surplus goes to the others.
    Whole nodes go by largest remainder, on ties to the heavier one; a drafter that gets none has 0.
    """
    shares = np.zeros(len(weights), dtype=np.int64)
    left, open_weights = min(num_nodes, capacity * len(weights)), np.asarray(weights, dtype=np.float64).copy()
    while left > 0 and open_weights.sum() > 0.0:
        exact = left * open_weights / open_weights.sum()
        whole = np.floor(exact).astype(np.int64)
        by_remainder = np.argsort(-(exact - whole), kind="stable")
        whole[by_remainder[: left - int(whole.sum())]] += 1
        given = np.minimum(whole, capacity - shares)
        shares += given
        left -= int(given.sum())
        open_weights[shares >= capacity] = 0.0  # what it could not take is divided again, among the others
    return [int(share) for share in shares]
