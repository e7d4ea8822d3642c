"""Replay recorded conversations under every arm; learners are the router's own, with what their tenants learned before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hedgespec.bench.answers import PLAIN
from hedgespec.bench.policies import with_learner
from hedgespec.bench.question_file import Question
from hedgespec.bench.questions.arms import PROMPT_ROUTER, learned_arms, replayed_arm
from hedgespec.bench.questions.conversation import Conversation, TenantPer, TurnAnswer, noise_seed, tenant, text_digest
from hedgespec.bench.questions.recording import QuestionRecording, RecordedAnswer
from hedgespec.bench.simulation.hindsight import best_switch_passes
from hedgespec.bench.simulation.served import Delays, Watch, replay_answer
from hedgespec.config import AppArgs, DrafterConfig
from hedgespec.learning.build import make_answer_learning
from hedgespec.learning.protocol import AnswerLearning
from hedgespec.learning.step_times import AnswerTimes, StepTimes
from hedgespec.router.selection import LearnedSelection
from hedgespec.store.record import AnswerOutcome, PreferenceRecord, answer_totals, preference_vector

DELAY_ROUNDS = 1
"""Scores are used a round later than they are asked for, as in the server, after the rounds that wait for them."""

Routed = Mapping[str, Sequence[str]]
"""question id -> the drafter that the prompt router picks for each turn"""


def replay_args(args: AppArgs, recording: QuestionRecording) -> AppArgs:
    """Return the configuration with the recorded drafters, all in one group, and the recorded draft length.

    Their kind does not matter: nothing is loaded.
    """
    drafters = tuple(DrafterConfig(id=name, kind="ngram", group="local") for name in recording.drafter_ids)
    speculation = args.speculation.model_copy(update={"max_draft_tokens": recording.max_draft_tokens})
    return args.model_copy(update={"drafters": drafters, "speculation": speculation})


def replay_questions(
    recording: QuestionRecording,
    args: AppArgs,
    arms: Sequence[str],
    routed: Routed,
    tenant_per: TenantPer,
    runs_each: int,
    seed: int,
    advance: Callable[[], None],
) -> list[Conversation]:
    """Return every recorded conversation under every arm. Fixed choices are computed exactly, without any luck.

    args: from `replay_args`. runs_each: replays of the run whose passes are averaged. advance: called after every arm
    """
    conversations: list[Conversation] = []
    for arm in arms:
        if arm in learned_arms():
            own = with_learner(args, *learned_arms()[arm])
            passes = np.mean(
                [_learned(recording, own, tenant_per, (seed << 16) + run) for run in range(runs_each)], axis=0
            )
        else:
            passes = np.array([_fixed(recording, answer, arm, routed) for answer in recording.answers])
        conversations += _conversations(recording, arm, passes)
        advance()
    return conversations


def _conversations(recording: QuestionRecording, arm: str, passes: np.ndarray) -> list[Conversation]:
    """passes: [num_answers]"""
    needed = dict(zip(map(id, recording.answers), passes.tolist(), strict=True))
    return [
        Conversation(
            question_id,
            answers[0].category,
            temperature,
            arm,
            tuple(TurnAnswer(a.num_tokens, needed[id(a)], None, text_digest(a.token_ids)) for a in answers),
        )
        for (question_id, temperature), answers in recording.conversations().items()
    ]


def _fixed(recording: QuestionRecording, answer: RecordedAnswer, arm: str, routed: Routed) -> float:
    if arm == PLAIN:
        return float(answer.num_tokens)
    drafter = routed[answer.question_id][answer.turn] if arm == PROMPT_ROUTER else arm
    return float(answer.expected_passes[recording.drafter_ids.index(drafter)])


def _learned(recording: QuestionRecording, args: AppArgs, tenant_per: TenantPer, seed: int) -> list[int]:
    """The passes of every answer, in one run over all of them: tenants learn from turn to turn."""
    tenants = Tenants(args, recording.drafter_ids, tenant_per)
    return [tenants.answer(answer, seed) for answer in recording.answers]


class Tenants:
    """The tenants of one arm: their preferences, as the router keeps them."""

    def __init__(self, args: AppArgs, drafter_ids: Sequence[str], tenant_per: TenantPer) -> None:
        self._args = args
        self._drafter_ids = list(drafter_ids)
        self._tenant_per = tenant_per
        self._records: dict[tuple[str, float], PreferenceRecord] = {}

    def answer(self, answer: RecordedAnswer, seed: int, watch: Watch | None = None) -> int:
        """Replay an answer, starting from its tenant's preference, and add to that; return its passes."""
        args, speculation = self._args, self._args.speculation
        question = Question(answer.question_id, answer.category, ())
        key = tenant(question, self._tenant_per), answer.temperature
        record = self._records.get(key, PreferenceRecord())
        learning = make_answer_learning(
            preference_vector(record, self._drafter_ids),
            args,
            self._drafter_ids,
            speculation.max_draft_tokens,
            AnswerTimes(StepTimes(), self._drafter_ids),
        )
        own_seed = noise_seed(answer.question_id, answer.turn, answer.temperature, seed)
        luck = np.random.default_rng(own_seed).random(answer.num_tokens)
        selection = LearnedSelection(learning, own_seed, args.learner.follow)
        delays = Delays(DELAY_ROUNDS, speculation.warm_rounds)
        passes = replay_answer(answer.scores, learning, selection, luck, delays, watch).passes
        if not args.learner.is_bandit:
            totals = answer_totals(self._outcome(learning, answer.num_tokens))
            self._records[key] = record.plus(0, totals)
        return passes

    def _outcome(self, learning: AnswerLearning, num_tokens: int) -> AnswerOutcome:
        passes = {self._drafter_ids[index]: value for index, value in learning.expected_passes().items()}
        costs = dict(zip(self._drafter_ids, learning.pass_costs().tolist(), strict=True))
        return AnswerOutcome(passes, num_tokens, learning.num_conceded(), costs)


@dataclass(frozen=True, slots=True)
class WeightsTrace:
    """The default learner's weights along one answer.

    picked: whether the answer was picked for its clear change of drafter, instead of asked for
    positions: [num_rounds], output index at the start of each round; weights: drafter id -> [num_rounds]
    """

    picked: bool
    question_id: str
    category: str
    turn: int
    temperature: float
    num_tokens: int
    positions: list[int]
    weights: dict[str, list[float]]


def trace_weights(
    recording: QuestionRecording, args: AppArgs, question_id: str | None, seed: int
) -> WeightsTrace | None:
    """Return the weights along an answer to a question; without an id along the one with the clearest change of drafter.

    None when the recording has no such answer.
    """
    candidates = [a for a in recording.answers if question_id in (None, a.question_id)]
    if not candidates:
        return None
    answer = max(candidates, key=change_of_drafter)
    args = with_learner(args, *learned_arms()[replayed_arm()])
    positions: list[int] = []
    rows: list[list[float]] = []

    def watch(position: int, weights: np.ndarray) -> None:
        positions.append(position)
        rows.append([round(float(weight), 4) for weight in weights])

    Tenants(args, recording.drafter_ids, "question").answer(answer, seed, watch)
    weights = dict(zip(recording.drafter_ids, map(list, zip(*rows, strict=True)), strict=True))
    return WeightsTrace(
        question_id is None,
        answer.question_id,
        answer.category,
        answer.turn,
        answer.temperature,
        answer.num_tokens,
        positions,
        weights,
    )


def change_of_drafter(answer: RecordedAnswer) -> float:
    """Return how many passes the best pair of drafters, one for each half, saves over the best one."""
    switched = best_switch_passes(answer.scores.acceptance[None], answer.num_tokens // 2)[0]
    return float(answer.expected_passes.min() - switched)
