"""Replay one answer at a time with the router's own learner, including scoring plan, sleepers and late scores.

It is slower than `replay`, and needed where learning depends on which rounds were played: sleeping drafters, updates per
round, losses that are cut at the end of a round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hedgespec.bench.simulation.policies import Follow
from hedgespec.bench.simulation.recording import Floats, Recording, by_start
from hedgespec.errors import HedgeSpecError
from hedgespec.learning.answer_learner import AnswerLearner
from hedgespec.router.selection import DraftLimits, LearnedSelection
from hedgespec.types import Scores


@dataclass(frozen=True, slots=True)
class ServedAnswers:
    """Counts per answer, [num_answers]: target passes, scored (drafter, token) pairs, and requests for scores."""

    passes: Floats
    num_scored: Floats
    num_calls: Floats


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
    outcomes = [
        _one_answer(recording, answer, new_learning(answer), luck[answer], seed, delay_rounds, wait_rounds, follow)
        for answer in range(recording.num_answers)
    ]
    passes, num_scored, num_calls = np.array(outcomes, dtype=np.float64).T
    return ServedAnswers(passes, num_scored, num_calls)


def _one_answer(
    recording: Recording,
    answer: int,
    learning: AnswerLearner,
    luck: Floats,
    seed: int,
    delay_rounds: int,
    wait_rounds: int,
    follow: Follow,
) -> tuple[int, int, int]:
    starts = by_start(recording.acceptance[answer])
    depth, num_tokens = recording.max_draft_tokens, recording.num_tokens
    selection = LearnedSelection(learning, (seed << 32) + answer, follow)
    available = [True] * recording.num_drafters
    on_their_way: list[tuple[int, int, Scores]] = []  # (round of their arrival, drafter, scores)
    position = round_index = num_scored = num_calls = 0
    while position < num_tokens:
        arrived = [late for late in on_their_way if late[0] <= round_index]
        on_their_way = [late for late in on_their_way if late[0] > round_index]
        for _, drafter, scores in arrived:
            learning.add_scores(drafter, scores, more_coming=True)
        learning.begin_round(round_index)
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
                scores = Scores(
                    score_from,
                    recording.acceptance[answer, drafter, rows],
                    recording.acceptance_prob[answer, drafter, rows],
                )
                arrival = round_index + 1 + (0 if round_index < wait_rounds else delay_rounds)
                on_their_way.append((arrival, drafter, scores))
                num_scored += position - score_from
                num_calls += 1
        round_index += 1
    if learning.failure is not None:  # frozen weights would be measured as if they had been learned
        raise HedgeSpecError(f"The learner failed: {learning.failure}")
    return round_index, num_scored, num_calls
