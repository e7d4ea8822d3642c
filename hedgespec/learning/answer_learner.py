"""The learner of one answer: scores go in whenever they arrive, weights come out whenever a round asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hedgespec.learning.experts import per_drafter, per_expert
from hedgespec.learning.feedback import Feedback
from hedgespec.learning.learners.checks import checked_weights
from hedgespec.learning.learners.learner import Learner
from hedgespec.learning.objectives.objective import Losses
from hedgespec.learning.prior import prompt_loss, tilted_prior
from hedgespec.learning.protocol import Floats, Mask
from hedgespec.learning.scoring_plan import ScoreFrom, ScoringPlan
from hedgespec.learning.sleepers import Sleepers
from hedgespec.types import Scores

QUIET_ROUNDS = 16
"""Least rounds between two sweeps that ask while all drafters but one sleep: what it does when it drafts is known anyway."""


class AnswerLearner:
    """`AnswerLearning` from every drafter's scores, the delayed feedback of one answer (design 5, 6).

    prior: [num_drafters], sums to 1
    plan, sleepers: which drafters are asked for scores when; without them all are, in every round
    prior_mixing: the uniform share mixed into a prior that the prompt has tilted
    prompt_rounds: the prompt's scores are used until this round, later the answer itself says more
    """

    def __init__(
        self,
        learner: Learner[Any],
        prior: Floats,
        feedback: Feedback,
        *,
        plan: ScoringPlan | None = None,
        sleepers: Sleepers | None = None,
        prior_mixing: float = 0.1,
        prompt_rounds: int = 0,
    ) -> None:
        num_drafters = len(prior)
        self.experts = feedback.experts
        self.sleepers = sleepers or Sleepers(num_drafters, 0.0, 0)
        self._drafter_prior = prior
        self._is_one_each = [expert.drafter_index for expert in self.experts] == list(range(num_drafters))
        self._learner = learner
        self._feedback = feedback
        self._plan = plan or ScoringPlan(num_drafters, dense_rounds=0, every=1)
        self._prior_mixing = prior_mixing
        self._prompt_rounds = prompt_rounds
        self._prompt_losses: dict[int, float] = {}
        self._is_tilted = True  # by all prompt losses so far
        self._early: Losses = []  # what was learned while the prior may still change
        self._round_index = 0
        self._num_swept = 0  # positions that the sweep under way asks every drafter for
        self._last_sweep = -QUIET_ROUNDS  # the round in which the last sweep that asks began
        self._is_quiet = False  # the sweep under way asks nobody
        self._state: Any = None
        self.failure: str | None = None
        self._start(prior)

    @property
    def weights(self) -> Floats:
        if self._is_one_each:
            return self.expert_weights
        return per_drafter(self.experts, self.expert_weights, len(self._drafter_prior))

    def awake(self, available: Sequence[bool]) -> Mask:
        return self.sleepers.usable(available)

    def begin_round(self, round_index: int) -> None:
        self._round_index = round_index
        self._learn()

    def verified(self, num_tokens: int, round_index: int, is_last: bool) -> ScoreFrom | None:
        awake = self.sleepers.awake
        self._plan.observe(num_tokens, awake)
        self._feedback.verified(num_tokens, round_index, is_asked=False, scorers=awake)
        if self._plan.begins_sweep(round_index):
            self._num_swept = self._feedback.num_verified
            # those that fall asleep now still owe scores: this sweep collects them
            was_alone = self.sleepers.is_alone
            self.sleepers.occasion(self.weights, round_index)
            is_early = round_index - self._last_sweep < QUIET_ROUNDS
            self._is_quiet = was_alone and self.sleepers.is_alone and is_early
            self._last_sweep = self._last_sweep if self._is_quiet else round_index
        if self._is_quiet and not is_last:
            return None
        if is_last or self._plan.ends_sweep(round_index):
            self._feedback.asked(round_index, self._feedback.num_verified if is_last else self._num_swept)
        return self._plan.take(round_index, all_drafters=is_last)

    def played(self, drafter_index: int, num_emitted: int) -> None:
        """The scores say more than the one round that happened, but they come seldom when one drafter is clearly best."""
        if self.sleepers.is_on and drafter_index == int(self.weights.argmax()):
            self.sleepers.played(num_emitted)

    def add_scores(self, drafter_index: int, scores: Scores, *, more_coming: bool) -> None:
        self._feedback.push(drafter_index, scores)
        if not more_coming:
            self._learn()

    def add_prompt_scores(self, drafter_index: int, acceptance_prob: NDArray[np.float32], num_rows: int) -> None:
        loss = prompt_loss(acceptance_prob, num_rows)
        if self._round_index < self._prompt_rounds:
            self._prompt_losses[drafter_index] = loss
            self._is_tilted = False

    def mark_absent(self, drafter_index: int) -> None:
        self._feedback.mark_absent(drafter_index)

    def finish(self) -> None:
        self._learn(is_over=True)

    def expected_passes(self) -> dict[int, float]:
        passes = self._feedback.expected_passes()
        return {int(i): float(passes[i]) for i in np.flatnonzero(self._feedback.scored_throughout())}

    def pass_costs(self) -> Floats:
        return self._feedback.pass_costs()

    def num_conceded(self) -> int:
        return int(self.sleepers.have_slept.sum())

    def _start(self, prior: Floats) -> None:
        self.expert_prior = per_expert(self.experts, prior)
        self._state = self._learner.init(self.expert_prior)
        self.expert_weights = self._learner.weights(self._state)

    def _learn(self, *, is_over: bool = False) -> None:
        if self.failure is not None:
            return
        try:
            self._tilt()
            self._update(self._feedback.finish() if is_over else self._feedback.closed_losses(self._round_index))
        except Exception as error:  # a learner or an objective of an installed package; no drafter is to blame
            self.failure = f"{type(error).__name__}: {error}"

    def _tilt(self) -> None:
        """Start again from the prior that the prompt suggests, with what has been learned since: late scores of the
        prompt are used as if they had been there in time."""
        if not self._is_tilted:
            self._is_tilted = True
            self._start(tilted_prior(self._drafter_prior, self._prompt_losses, self._prior_mixing))
            for losses, awake in self._early:
                self._state = self._learner.update(self._state, losses, awake)
            self.expert_weights = self._learner.weights(self._state)
        if self._round_index >= self._prompt_rounds:
            self._early = []

    def _update(self, closed: Losses) -> None:
        if self._round_index < self._prompt_rounds:
            self._early.extend(closed)
        for losses, awake in closed:
            if self.sleepers.is_on:
                self._watch_sleepers(losses, awake)
            self._state = self._learner.update(self._state, losses, awake)
        if closed:
            self.expert_weights = checked_weights(self._learner.weights(self._state), len(self.experts))

    def _watch_sleepers(self, losses: Floats, awake: Mask) -> None:
        """Show the sleepers one position's losses per drafter: a drafter's loss is that of its best draft length."""
        num_drafters = len(self._drafter_prior)
        leader = int(self._learner.weights(self._state).argmax())
        if not awake[leader]:
            return
        if self._is_one_each:
            self.sleepers.learned(losses, awake, float(losses[leader]))
            return
        own, is_awake = np.ones(num_drafters), np.zeros(num_drafters, dtype=bool)
        for index, expert in enumerate(self.experts):
            if expert.drafter_index is not None and awake[index]:
                own[expert.drafter_index] = min(own[expert.drafter_index], losses[index])
                is_awake[expert.drafter_index] = True
        self.sleepers.learned(own, is_awake, float(losses[leader]))
