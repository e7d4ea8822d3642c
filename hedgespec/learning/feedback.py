"""Feedback joins the drafters' scores of one answer, which come late and in any order, into loss vectors by position.

    feedback.verified(num_tokens, round_index)     the target has emitted tokens, and drafters are asked to score them
    feedback.push(drafter_index, scores)           a drafter has scored some of them
    feedback.closed_losses(round_index)            the loss vectors that are final now
    feedback.finish()                              the answer is over

A position closes when every present drafter has scored it, or `score_timeout_rounds` rounds after its scores were asked
for, with those that came. A drafter that misses a deadline counts as absent, so that it is waited for once and not at
every position, until it scores a position that is still open. With a scoring schedule tokens are verified first and asked
about later: `verified(..., is_asked=False)`, then `asked(round_index)`; positions that were not asked for stay open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hedgespec.catalogue import OBJECTIVES
from hedgespec.errors import InvalidObservation
from hedgespec.learning.estimators import Floats, Mask, RoundsCursor, advance
from hedgespec.learning.experts import Expert
from hedgespec.learning.objectives.objective import Losses, Objective, Pool
from hedgespec.learning.score_checks import MAX_ACCEPTANCE_PROB, Rows, in_range
from hedgespec.types import CHAIN, DraftForm, Scores


def make_feedback(
    objective: str,
    num_drafters: int,
    max_draft_tokens: int,
    score_timeout_rounds: int,
    *,
    draft_lengths: tuple[int, ...] = (),
    seconds: Callable[[Sequence[Expert]], Floats] | None = None,
    draft_form: DraftForm = CHAIN,
) -> Feedback:
    """The feedback of one answer under the objective of that name; losses have one entry per expert of the objective.

    draft_lengths, seconds: see `Pool`. draft_form: what the drafters draft, hence what their scores say (`Scores`)
    Raises ConfigError for an unknown objective, and for one that cannot be computed so (`Objective.check`).
    """
    kind = OBJECTIVES.load(objective)
    kind.check(objective, draft_form.kind, draft_lengths)
    pool = Pool(num_drafters, max_draft_tokens, draft_lengths, draft_form, seconds)
    return Feedback(kind(pool), score_timeout_rounds)


class Feedback:
    """Joins scores of one answer by position. Drafters are numbered as in the objective's pool."""

    def __init__(self, objective: Objective, score_timeout_rounds: int) -> None:
        num_drafters, max_draft_tokens = objective.pool.num_drafters, objective.pool.max_draft_tokens
        self.experts = objective.experts
        self._objective = objective
        self._depth = max_draft_tokens
        self._timeout_rounds = score_timeout_rounds
        self._present = np.ones(num_drafters, dtype=bool)
        self._scored_throughout = np.ones(num_drafters, dtype=bool)
        self._passes = np.zeros(num_drafters)
        self._cursor = RoundsCursor.start(num_drafters, max_draft_tokens)
        self._num_closed = 0
        self._nothing_new_in: int | None = None  # the round in which `closed_losses` has seen everything
        self._asked_in_round: list[int | None] = []  # of each open position
        # rows of the open positions: [num_drafters, capacity, depth], the first is position _num_closed
        self._acceptance = np.zeros((num_drafters, 32, max_draft_tokens))
        self._acceptance_prob = np.zeros((num_drafters, 32, max_draft_tokens))
        self._answered = np.zeros((num_drafters, 32), dtype=bool)
        self._scorers = np.zeros((num_drafters, 32), dtype=bool)

    @property
    def num_verified(self) -> int:
        return self._num_closed + len(self._asked_in_round)

    def verified(self, num_tokens: int, round_index: int, is_asked: bool = True, scorers: Mask | None = None) -> None:
        """The target has emitted num_tokens more tokens in this round, and drafters are asked to score them.

        is_asked: False when that is done later (`asked`); until then these positions stay open, and so do later ones
        scorers: [num_drafters], False for a drafter that sleeps and is not waited for here; None: all of them score
        """
        self._nothing_new_in = None
        first = len(self._asked_in_round)
        self._asked_in_round.extend([round_index if is_asked else None] * num_tokens)
        while len(self._asked_in_round) > self._answered.shape[1]:
            self._acceptance = _doubled(self._acceptance)
            self._acceptance_prob = _doubled(self._acceptance_prob)
            self._answered = _doubled(self._answered)
            self._scorers = _doubled(self._scorers)
        self._scorers[:, first : first + num_tokens] = True if scorers is None else scorers[:, None]

    def asked(self, round_index: int, end: int | None = None) -> None:
        """Every position before `end` (default: all verified so far) is asked for now: scores of those that had not been
        asked for before are due score_timeout_rounds after this round."""
        num_asked = (self.num_verified if end is None else end) - self._num_closed
        for index in range(self._num_asked(), num_asked):
            self._asked_in_round[index] = round_index
        self._nothing_new_in = None

    def push(self, drafter_index: int, scores: Scores) -> None:
        """Take in scores. The first score of a position counts; positions that have closed are ignored.

        Raises InvalidObservation for scores of unverified positions, of a wrong shape, out of range, or without what
        the objective needs; nothing has changed then.
        """
        acceptance, acceptance_prob = self._checked(scores)
        first, end = scores.start - self._num_closed, scores.start + len(acceptance) - self._num_closed
        skipped, first = max(-first, 0), max(first, 0)
        if end <= first:
            return
        self._nothing_new_in = None
        answered = self._answered[drafter_index, first:end]
        new = ~answered if answered.any() else ...
        self._acceptance[drafter_index, first:end][new] = acceptance[skipped:][new]
        if acceptance_prob is not None:
            self._acceptance_prob[drafter_index, first:end][new] = acceptance_prob[skipped:][new]
        answered[:] = True
        self._present[drafter_index] = True

    def mark_absent(self, drafter_index: int) -> None:
        """Stop waiting for a drafter (dead, not open yet) until it scores an open position."""
        self._present[drafter_index] = False
        self._nothing_new_in = None

    def closed_losses(self, now_round: int) -> Losses:
        """Loss vectors that have become final since the last call, in order of position."""
        if now_round == self._nothing_new_in:  # called at the start of a round and whenever scores have come
            return []
        self._nothing_new_in = now_round
        num_asked = self._num_asked()
        num_closing = self._first_awaited(0, num_asked)
        while num_closing < num_asked and self._is_due(num_closing, now_round):
            self._present &= self._answered[:, num_closing] | ~self._scorers[:, num_closing]
            num_closing = self._first_awaited(num_closing + 1, num_asked)
        return self._close(num_closing)

    def finish(self) -> Losses:
        """Close every position with the scores that have come; call it once nothing more is waited for."""
        return self._close(len(self._asked_in_round))

    def scored_throughout(self) -> Mask:
        """[num_drafters]: True for drafters that have scored every closed position; all False before the first one."""
        return self._scored_throughout & (self._num_closed > 0)

    def expected_passes(self) -> Floats:
        """[num_drafters]: the sum of u over the closed positions, the target passes each drafter would need alone.

        It means something only for the drafters of `scored_throughout`.
        """
        return self._passes.copy()

    def pass_costs(self) -> Floats:
        """See `Objective.pass_costs`."""
        return self._objective.pass_costs()

    def _checked(self, scores: Scores) -> tuple[Rows, Rows | None]:
        """acceptance, and acceptance_prob where it is needed: [num_tokens, depth], or one column for all depths."""
        num_tokens = len(scores.acceptance)
        if scores.start < 0 or scores.start + num_tokens > self.num_verified:
            end = scores.start + num_tokens
            raise InvalidObservation(
                f"Scores of positions [{scores.start}, {end}), but {self.num_verified} are verified."
            )
        acceptance = in_range(scores.acceptance, num_tokens, self._depth, 1.0)
        if not self._objective.needs_acceptance_prob:
            return acceptance, None
        if scores.acceptance_prob is None:
            raise InvalidObservation("This objective needs acceptance_prob: open sessions with num_target_top > 0.")
        return acceptance, in_range(scores.acceptance_prob, num_tokens, self._depth, MAX_ACCEPTANCE_PROB)

    def _num_asked(self) -> int:
        """Open positions before the first one that was not asked for."""
        return self._asked_in_round.index(None) if None in self._asked_in_round else len(self._asked_in_round)

    def _is_due(self, index: int, now_round: int) -> bool:
        asked = self._asked_in_round[index]
        return asked is not None and now_round - asked >= self._timeout_rounds

    def _first_awaited(self, first: int, end: int) -> int:
        """The first open position from `first` on that a present drafter has not scored; `end` if there is none."""
        missing = self._scorers[:, first:end] & ~self._answered[:, first:end]
        awaited = (missing & self._present[:, None]).any(axis=0)
        return first + int(awaited.argmax()) if awaited.any() else end

    def _close(self, num_positions: int) -> Losses:
        if num_positions == 0:
            return []
        num_open = len(self._asked_in_round)
        awake = self._answered[:, :num_positions].copy()
        acceptance = self._acceptance[:, :num_positions].copy()
        acceptance_prob = self._acceptance_prob[:, :num_positions].copy()
        if num_positions < num_open:
            for rows in (self._acceptance, self._acceptance_prob, self._answered, self._scorers):
                rows[:, : num_open - num_positions] = rows[:, num_positions:num_open]
        self._answered[:, num_open - num_positions : num_open] = False
        del self._asked_in_round[:num_positions]
        self._num_closed += num_positions

        self._cursor, round_starts = advance(self._cursor, acceptance, awake)
        self._passes += round_starts[:-1].sum(axis=0)
        self._scored_throughout &= awake.all(axis=1)
        return self._objective.close(round_starts[1:], acceptance, acceptance_prob, awake)


def _doubled(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows, np.zeros_like(rows)], axis=1)
