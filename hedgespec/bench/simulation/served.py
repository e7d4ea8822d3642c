"""Replay one answer at a time with the router's own learner, including scoring plan, sleepers and late scores.

It is slower than `replay`, and needed where learning depends on which rounds were played: sleeping drafters, updates per
round, losses that are cut at the end of a round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from hedgespec.bench.simulation.policies import Follow
from hedgespec.bench.simulation.recording import Floats, Recording, by_start
from hedgespec.errors import HedgeSpecError
from hedgespec.learning.answer_learner import AnswerLearner
from hedgespec.learning.protocol import AnswerLearning
from hedgespec.router.selection import DraftLimits, LearnedSelection
from hedgespec.types import Scores


@dataclass(frozen=True, slots=True)
class ServedAnswers:
    """Counts per answer, [num_answers]: target passes, scored (drafter, token) pairs, and requests for scores."""

    passes: Floats
    num_scored: Floats
    num_calls: Floats


@dataclass(frozen=True, slots=True)
class Delays:
    """How many rounds later scores are used (`learning.scoring_plan`), but not in the first rounds, which wait for them."""

    delay_rounds: int = 0
    wait_rounds: int = 0

    def arrival(self, round_index: int) -> int:
        """Return the first round that uses the scores which this one has asked for."""
        return round_index + 1 + (0 if round_index < self.wait_rounds else self.delay_rounds)


@dataclass(frozen=True, slots=True)
class ServedAnswer:
    """Counts of one replay of one answer, as in `ServedAnswers`."""

    passes: int
    num_scored: int
    num_calls: int


Watch = Callable[[int, Floats], None]
"""Called at the start of each round with its output index and the weights, [num_drafters]."""


def replay_served(
    recording: Recording,
    new_learning: Callable[[int], AnswerLearner],
    seed: int,
    delay_rounds: int = 0,
    wait_rounds: int = 0,
    follow: Follow = "sample",
) -> ServedAnswers:
    """Replay every answer once.

    new_learning: makes the learner of an answer, from its index. The luck of acceptance is that of `replay` with a single
    run per answer and this seed; choices are drawn as the router draws them.
    """
    luck = np.random.default_rng([seed, 0]).random((recording.num_answers, recording.num_tokens))
    delays = Delays(delay_rounds, wait_rounds)
    outcomes = []
    for answer in range(recording.num_answers):
        rows = AnswerScores(recording.acceptance[answer], recording.acceptance_prob[answer])
        learning = new_learning(answer)
        selection = LearnedSelection(learning, (seed << 32) + answer, follow)
        outcomes.append(astuple(replay_answer(rows, learning, selection, luck[answer], delays)))
    passes, num_scored, num_calls = np.array(outcomes, dtype=np.float64).T
    return ServedAnswers(passes, num_scored, num_calls)


@dataclass(frozen=True, slots=True)
class AnswerScores:
    """One answer's part of a recording: acceptance, acceptance_prob: [num_drafters, num_tokens, max_draft_tokens]."""

    acceptance: NDArray[np.float32]
    acceptance_prob: NDArray[np.float32]


def replay_answer(
    answer: AnswerScores,
    learning: AnswerLearning,
    selection: LearnedSelection,
    luck: Floats,
    delays: Delays,
    watch: Watch | None = None,
) -> ServedAnswer:
    """Replay one answer to its end, late scores included, so that `learning` then knows what it will ever know of it.

    luck: [num_tokens] in [0, 1); a token of a draft is accepted where it is below the recorded acceptance.
    Raises HedgeSpecError when the learner has failed: frozen weights would be measured as if they had been learned.
    """
    starts = by_start(answer.acceptance)
    num_drafters, num_tokens, depth = answer.acceptance.shape
    available = [True] * num_drafters
    on_their_way: list[tuple[int, int, Scores]] = []  # (round of their arrival, drafter, scores)
    position = round_index = num_scored = num_calls = 0
    while position < num_tokens:
        arrived = [late for late in on_their_way if late[0] <= round_index]
        on_their_way = [late for late in on_their_way if late[0] > round_index]
        for _, drafter, scores in arrived:
            learning.add_scores(drafter, scores, more_coming=True)
        learning.begin_round(round_index)
        if watch is not None:
            watch(position, learning.weights)
        choices = selection.choose(round_index, available, DraftLimits(depth))
        accepted = 0
        for choice in choices:
            reach = min(choice.num_draft_tokens, num_tokens - position)
            hits = luck[position : position + reach] < starts[choice.drafter_index, position, :reach]
            accepted = int(np.cumprod(hits).sum())
        emitted = min(accepted + 1, num_tokens - position)
        position += emitted
        if choices:
            learning.played(choices[0].drafter_index, emitted)
        requested = learning.verified(emitted, round_index, is_last=position == num_tokens)
        for drafter, score_from in enumerate(requested or ()):
            if score_from is not None:
                rows = slice(score_from, position)
                scores = Scores(score_from, answer.acceptance[drafter, rows], answer.acceptance_prob[drafter, rows])
                on_their_way.append((delays.arrival(round_index), drafter, scores))
                num_scored += position - score_from
                num_calls += 1
        round_index += 1
    for _, drafter, scores in on_their_way:
        learning.add_scores(drafter, scores, more_coming=True)
    learning.finish()
    if learning.failure is not None:
        raise HedgeSpecError(f"The learner failed: {learning.failure}")
    return ServedAnswer(round_index, num_scored, num_calls)
