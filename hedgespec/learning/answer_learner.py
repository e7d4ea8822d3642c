"""The learner of one answer: scores go in whenever they arrive, weights come out whenever a round asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hedgespec.learning.feedback import Feedback
from hedgespec.learning.learners.learner import Learner
from hedgespec.learning.objectives import Expert, Losses
from hedgespec.learning.prompt_evidence import prompt_loss, tilted_prior
from hedgespec.learning.scoring_plan import ScoreFrom, ScoringPlan
from hedgespec.learning.sleepers import Sleepers
from hedgespec.types import Scores

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

ANY_LENGTH = 1 << 15
"""Draft length of an expert that always drafts as much as a round allows."""


class Learning(Protocol):
    """What the decode loop, the panel and the selection know of an answer's learner.

    experts: what the learner chooses among, one per drafter unless draft lengths are learned too
    expert_prior, expert_weights: [num_experts], sum to 1; weights: [num_drafters], the experts' summed per drafter
    """

    experts: tuple[Expert, ...]
    expert_prior: Floats
    expert_weights: Floats

    @property
    def weights(self) -> Floats: ...

    def awake(self, available: Sequence[bool]) -> Mask:
        """Who may be drawn, of the drafters that are available."""
        ...

    def mark_absent(self, drafter_index: int) -> None:
        """A drafter that died or was never there: losses no longer wait for it."""
        ...

    def verified(self, num_tokens: int, round_index: int, is_last: bool) -> ScoreFrom | None:
        """The target has emitted so many more tokens. Returns, per drafter, the first output index it is to score now, or
        None where it is not asked; None when nobody is."""
        ...

    def add_scores(self, drafter_index: int, scores: Scores) -> None:
        """Raises InvalidObservation."""
        ...

    def add_prompt_scores(self, drafter_index: int, overlap: NDArray[np.float32], num_rows: int) -> None:
        """Raises InvalidObservation."""
        ...

    def played(self, drafter_index: int, num_emitted: int) -> None:
        """A round in which this drafter alone had proposed emitted so many tokens."""
        ...

    def absorb(self, round_index: int | None = None) -> None:
        """Learn from everything that has come in. Runs while the target verifies. None: in the round of the last call."""
        ...

    def finish(self) -> None:
        """Nothing more is waited for."""
        ...

    def expected_passes(self) -> dict[int, float]:
        """Drafter index -> target passes it alone would have needed; only drafters scored throughout."""
        ...

    def num_conceded(self) -> int:
        """Drafters that were not scored throughout because they were hopeless."""
        ...


class AnswerLearner:
    """Learns from every drafter's scores, its delayed feedback of one answer (DESIGN 5, 6).

    prior: [num_drafters], sums to 1
    experts: as `feedback` numbers its losses; None: one per drafter
    plan, sleepers: who is asked for scores when; without them everybody is, in every round
    prior_mixing: the share of the uniform prior in one that the prompt has tilted
    prompt_rounds: the prompt's scores are used until this round, later the answer itself says more
    """

    def __init__(
        self,
        learner: Learner[Any],
        prior: Floats,
        feedback: Feedback,
        *,
        experts: Sequence[Expert] | None = None,
        plan: ScoringPlan | None = None,
        sleepers: Sleepers | None = None,
        prior_mixing: float = 0.1,
        prompt_rounds: int = 0,
    ) -> None:
        num_drafters = len(prior)
        self.experts = tuple(experts or (Expert(i, ANY_LENGTH) for i in range(num_drafters)))
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
        self._num_swept = 0  # positions that the sweep under way asks everybody for
        self._state: Any = None
        self._start(prior)

    @property
    def weights(self) -> Floats:
        if self._is_one_each:
            return self.expert_weights
        return per_drafter(self.experts, self.expert_weights, len(self._drafter_prior))

    def awake(self, available: Sequence[bool]) -> Mask:
        return self.sleepers.usable(available)

    def mark_absent(self, drafter_index: int) -> None:
        self._feedback.mark_absent(drafter_index)

    def verified(self, num_tokens: int, round_index: int, is_last: bool) -> ScoreFrom | None:
        awake = self.sleepers.awake
        self._plan.observe(num_tokens, awake)
        self._feedback.verified(num_tokens, round_index, is_asked=False, scorers=awake)
        if self._plan.begins_sweep(round_index):
            self._num_swept = self._feedback.num_verified
            self.sleepers.occasion(self.weights, round_index)
        if is_last or self._plan.ends_sweep(round_index):
            self._feedback.asked(round_index, self._feedback.num_verified if is_last else self._num_swept)
        return self._plan.take(round_index, everybody=is_last)

    def add_scores(self, drafter_index: int, scores: Scores) -> None:
        self._feedback.push(drafter_index, scores)

    def add_prompt_scores(self, drafter_index: int, overlap: NDArray[np.float32], num_rows: int) -> None:
        loss = prompt_loss(overlap, num_rows)
        if self._round_index < self._prompt_rounds:
            self._prompt_losses[drafter_index] = loss
            self._is_tilted = False

    def played(self, drafter_index: int, num_emitted: int) -> None:
        """Scores say more than the one round that happened."""

    def absorb(self, round_index: int | None = None) -> None:
        self._round_index = self._round_index if round_index is None else round_index
        self._tilt()
        self._update(self._feedback.closed_losses(self._round_index))

    def finish(self) -> None:
        self._update(self._feedback.finish())

    def expected_passes(self) -> dict[int, float]:
        passes = self._feedback.expected_passes()
        return {int(i): float(passes[i]) for i in np.flatnonzero(self._feedback.scored_throughout())}

    def num_conceded(self) -> int:
        return int(self.sleepers.have_slept.sum())

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

    def _start(self, prior: Floats) -> None:
        self.expert_prior = per_expert(self.experts, prior)
        self._state = self._learner.init(self.expert_prior)
        self.expert_weights = self._learner.weights(self._state)

    def _update(self, closed: Losses) -> None:
        if self._round_index < self._prompt_rounds:
            self._early.extend(closed)
        for losses, awake in closed:
            if self.sleepers.is_on:
                self._tell_sleepers(losses, awake)
            self._state = self._learner.update(self._state, losses, awake)
        if closed:
            self.expert_weights = self._learner.weights(self._state)

    def _tell_sleepers(self, losses: Floats, awake: Mask) -> None:
        """A drafter's loss is that of its best draft length."""
        num_drafters, weights = len(self._drafter_prior), self._learner.weights(self._state)
        if self._is_one_each:
            self.sleepers.learned(losses, awake, int(weights.argmax()))
            return
        own, is_awake = np.ones(num_drafters), np.zeros(num_drafters, dtype=bool)
        for index, expert in enumerate(self.experts):
            if expert.drafter_index is not None and awake[index]:
                own[expert.drafter_index] = min(own[expert.drafter_index], losses[index])
                is_awake[expert.drafter_index] = True
        leader = int(per_drafter(self.experts, weights, num_drafters).argmax())
        self.sleepers.learned(own, is_awake, leader)


def per_drafter(experts: Sequence[Expert], weights: Floats, num_drafters: int) -> Floats:
    """[num_experts] -> [num_drafters]: summed over each drafter's draft lengths; no speculation belongs to nobody."""
    summed = np.zeros(num_drafters)
    for expert, weight in zip(experts, weights, strict=True):
        if expert.drafter_index is not None:
            summed[expert.drafter_index] += weight
    return summed


def per_expert(experts: Sequence[Expert], prior: Floats) -> Floats:
    """[num_drafters] -> [num_experts]: a drafter's mass shared by its draft lengths; no speculation has as much as an
    average expert."""
    counts = np.bincount([e.drafter_index for e in experts if e.drafter_index is not None], minlength=len(prior))
    num_none = sum(e.drafter_index is None for e in experts)
    left = 1.0 - num_none / len(experts)
    return np.array(
        [
            1.0 / len(experts) if e.drafter_index is None else left * prior[e.drafter_index] / counts[e.drafter_index]
            for e in experts
        ]
    )
