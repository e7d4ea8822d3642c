"""Losses for the ablation study, which the server does not offer: variants from the HedgeSpec paper's appendix, and one of
our own.

Each is an `Objective`. One call of `close` stands for one chunk: pass it the rows of one round at a time.
"""

from __future__ import annotations

import numpy as np

from hedgespec.learning.estimators import Floats, Mask, expected_length
from hedgespec.learning.objectives.acceptance import Acceptance
from hedgespec.learning.objectives.length import Length
from hedgespec.learning.objectives.objective import Losses, Objective, Pool, bounded_vectors, loss_vectors


class Ablation(Objective):
    """An objective of the ablation study; all of them read sum_x min(p, q)."""

    needs_acceptance_prob = True


class ChunkLosses(Ablation):
    """Update once per chunk, with the mean of the chunk's token-level loss vectors.

    An expert is awake when it was awake in all of them: means over different tokens would compare text, not drafters.
    """

    def __init__(self, inner: Objective) -> None:
        super().__init__(inner.pool)
        self._inner = inner

    def close(self, round_starts: Floats, acceptance: Floats, acceptance_prob: Floats, awake: Mask) -> Losses:
        vectors = self._inner.close(round_starts, acceptance, acceptance_prob, awake)
        if not vectors:
            return []
        losses, masks = (np.stack(parts) for parts in zip(*vectors, strict=True))
        in_all: Mask = np.logical_and.reduce(masks, axis=0, keepdims=True)
        return loss_vectors(losses.mean(axis=0, keepdims=True), in_all)


class SkippingLosses(Ablation):
    """Update with only the first of every `period` loss vectors, counted over the whole answer."""

    def __init__(self, inner: Objective, period: int) -> None:
        super().__init__(inner.pool)
        self._inner = inner
        self._period = period
        self._num_seen = 0

    def close(self, round_starts: Floats, acceptance: Floats, acceptance_prob: Floats, awake: Mask) -> Losses:
        vectors = self._inner.close(round_starts, acceptance, acceptance_prob, awake)
        first = -self._num_seen % self._period
        self._num_seen += len(vectors)
        return vectors[first :: self._period]


class CensoredLengthLosses(Ablation):
    """Objective `length` without waiting: starts whose K positions do not lie in one chunk are dropped. Biased.

    Long chunks come where the chosen drafter is right, so only such text counts and a choice confirms itself.
    """

    def close(self, round_starts: Floats, acceptance: Floats, acceptance_prob: Floats, awake: Mask) -> Losses:
        chunk_alone = Length(self.pool)
        return chunk_alone.close(round_starts, acceptance, acceptance_prob, awake)


class ProvisionalLengthLosses(Ablation):
    """Objective `length` at once: a start counts truncated where the verified text ends and is corrected when complete.

    The horizon h is the same for all drafters. First 1 - L_h / (K + 1), later (K - h - (L - L_h)) / (K + 1): each is in
    [0, 1], and together they are the loss of `length` plus (K - h) / (K + 1), which no comparison notices. (A drafter
    that falls asleep in between keeps its truncated loss.)
    """

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self._horizons: list[int] = []  # one per incomplete start; their rows are in _rows
        self._rows: tuple[Floats, Floats, Mask] | None = None

    def close(self, round_starts: Floats, acceptance: Floats, acceptance_prob: Floats, awake: Mask) -> Losses:
        depth, num_incomplete = self.pool.max_draft_tokens, len(self._horizons)
        if depth == 0:
            return []
        if self._rows is not None:
            acceptance = np.concatenate([self._rows[0], acceptance], axis=1)
            acceptance_prob = np.concatenate([self._rows[1], acceptance_prob], axis=1)
            awake = np.concatenate([self._rows[2], awake], axis=1)
        num_starts = awake.shape[1]

        vectors: Losses = []
        for start in range(num_starts):
            horizon = min(depth, num_starts - start)
            length = self._truncated_length(acceptance, acceptance_prob, start, horizon)
            if start >= num_incomplete:
                losses = 1.0 - length / (depth + 1)
                self._horizons.append(horizon)
            elif horizon == depth:
                earlier = self._horizons[start]
                before = self._truncated_length(acceptance, acceptance_prob, start, earlier)
                losses = (depth - earlier - (length - before)) / (depth + 1)
            else:
                continue
            present: Mask = np.logical_and.reduce(awake[:, start : start + horizon], axis=1)
            vectors += bounded_vectors(losses[None], present[None])

        num_complete = max(num_starts - depth + 1, 0)
        del self._horizons[:num_complete]
        self._rows = acceptance[:, num_complete:], acceptance_prob[:, num_complete:], awake[:, num_complete:]
        return vectors

    def _truncated_length(self, acceptance: Floats, acceptance_prob: Floats, start: int, horizon: int) -> Floats:
        """Return the expected length up to a horizon, [num_drafters]: 1 + the terms of depth 1 .. horizon."""
        depths = np.arange(horizon)
        return expected_length(acceptance[:, start + depths, depths], acceptance_prob[:, start + depths, depths])


class ForwardLengthLosses(Ablation):
    """Objective `length` by position (our own): each position at once takes the terms of all starts that reach it.

    The loss is (K - sum_j m_j s_j) / (K + 1): s_j is the acceptance probability at depth j, and m_j = prod_{i<j} a_i is
    taken along the start j - 1 positions back, 0 where there is no such start. Over an answer this adds up to `length` of
    every complete start and the truncated terms of the last K - 1 ones, with one horizon for all drafters: nothing waits,
    nothing is corrected. A drafter that was asleep has no starts from that time, so its losses are too high in its first
    K - 1 positions awake.
    """

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self._reach: Floats | None = None  # [num_drafters, depth], m of the next position; 0 where no start is

    def close(self, round_starts: Floats, acceptance: Floats, acceptance_prob: Floats, awake: Mask) -> Losses:
        depth = self.pool.max_draft_tokens
        if depth == 0:
            return []
        begin = np.eye(1, depth).repeat(len(acceptance), axis=0)
        reach = begin if self._reach is None else self._reach
        losses = np.empty(awake.T.shape)
        for position in range(awake.shape[1]):
            terms = reach * acceptance_prob[:, position]
            losses[position] = (depth - terms.sum(axis=1)) / (depth + 1)
            moved = begin.copy()
            moved[:, 1:] = (reach * acceptance[:, position])[:, :-1]
            reach = np.where(awake[:, position, None], moved, begin)
        self._reach = reach
        return bounded_vectors(losses, awake.T)


class HybridLosses(Ablation):
    """Two loss vectors per position: weight * `acceptance` at once and (1 - weight) * `length` when it is complete."""

    def __init__(self, pool: Pool, weight: float) -> None:
        super().__init__(pool)
        self._parts: tuple[tuple[float, Objective], ...] = ((weight, Acceptance(pool)), (1.0 - weight, Length(pool)))

    def close(self, round_starts: Floats, acceptance: Floats, acceptance_prob: Floats, awake: Mask) -> Losses:
        return [
            (share * losses, mask)
            for share, part in self._parts
            for losses, mask in part.close(round_starts, acceptance, acceptance_prob, awake)
        ]
