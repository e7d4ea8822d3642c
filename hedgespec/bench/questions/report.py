"""The table of a comparison on questions, by category and over all of them, with 95 % intervals over questions.

It is made of conversations, whether these were measured live or replayed from a recording.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hedgespec.bench.answers import NUM_RESAMPLES, PLAIN, Ratio, ratio
from hedgespec.bench.questions.conversation import Conversation, TurnAnswer
from hedgespec.errors import ConfigError

ALL = "all questions"
"""The name under which the questions of all categories are summed up."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One arm in one category.

    mean_accepted_tokens: emitted tokens per target pass
    share_of_best_fixed:  mean over answers of its tokens per pass / those of the drafter that was best alone in that answer
    over_plain:           tokens/s / those of plain decoding; None without times
    """

    answers: int
    tokens: int
    passes: float
    mean_accepted_tokens: Ratio
    share_of_best_fixed: Ratio
    over_plain: Ratio | None


@dataclass(frozen=True, slots=True)
class Section:
    """One category, or all questions, at one temperature.

    learned_over:    arm -> mean accepted tokens of the default learner / the arm's
    fastest_drafter: the drafter that alone has the most tokens/s; speed_share: the default learner's tokens/s / its own;
                     both None without times
    """

    cells: dict[str, Cell]
    learned_over: dict[str, Ratio]
    fastest_drafter: str | None
    speed_share: Ratio | None


@dataclass(frozen=True, slots=True)
class QuestionReport:
    """sections[temperature][category]; the category `ALL` has all questions.

    same_text:     temperature 0: how many answers equal plain decoding's, of how many
    num_questions: temperature -> complete questions; num_left_out: those that not every arm has finished
    """

    drafter_ids: tuple[str, ...]
    learned: str
    sections: dict[str, dict[str, Section]]
    same_text: tuple[int, int]
    num_questions: dict[str, int]
    num_left_out: int
    conversations: tuple[Conversation, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the report for JSON, every conversation included."""
        return asdict(self)


Asked = tuple[str, str]
"""(category, question id)"""


class _Table:
    """Answers of one temperature that every arm has, as arrays by arm; one row per (question, turn)."""

    def __init__(self, conversations: Sequence[Conversation], arms: Sequence[str]) -> None:
        by_question: dict[Asked, dict[str, Conversation]] = {}
        for conversation in conversations:
            by_question.setdefault((conversation.category, conversation.question_id), {})[conversation.arm] = (
                conversation
            )
        self.complete = {asked: own for asked, own in by_question.items() if set(arms) <= set(own)}
        self.num_left_out = len(by_question) - len(self.complete)
        rows = [(asked, turn) for asked, own in self.complete.items() for turn in range(_num_turns(own, arms))]
        self.questions = np.array([list(self.complete).index(asked) for asked, _ in rows], dtype=np.int64)
        self.categories = np.array([asked[0] for asked, _ in rows])
        self.answers: dict[str, list[TurnAnswer]] = {
            arm: [self.complete[asked][arm].answers[turn] for asked, turn in rows] for arm in arms
        }
        self.tokens = {arm: np.array([a.tokens for a in own], dtype=np.float64) for arm, own in self.answers.items()}
        self.passes = {arm: np.array([a.passes for a in own], dtype=np.float64) for arm, own in self.answers.items()}
        self.is_timed = all(a.seconds is not None for own in self.answers.values() for a in own)
        self.seconds = {arm: np.array([a.seconds or 0.0 for a in own]) for arm, own in self.answers.items()}

    def names(self) -> list[str]:
        return list(dict.fromkeys(self.categories.tolist()))


def _num_turns(own: Mapping[str, Conversation], arms: Sequence[str]) -> int:
    return min(len(own[arm].answers) for arm in arms)


def question_report(
    conversations: Sequence[Conversation], arms: Sequence[str], drafter_ids: Sequence[str], learned: str
) -> QuestionReport:
    """Compare arms on the questions that all of them have finished.

    arms: in the order of the table; drafter_ids: those of them that are one drafter alone; learned: the default learner's.
    Raises ConfigError when no question is finished.
    """
    sections: dict[str, dict[str, Section]] = {}
    num_questions, num_left_out, equal, compared = {}, 0, 0, 0
    for temperature in sorted({c.temperature for c in conversations}):
        table = _Table([c for c in conversations if c.temperature == temperature], arms)
        num_left_out += table.num_left_out
        if not table.complete:
            continue
        name = f"{temperature:g}"
        num_questions[name] = len(table.complete)
        everything = np.ones(len(table.questions), bool)
        sections[name] = {c: _section(table, table.categories == c, arms, drafter_ids, learned) for c in table.names()}
        sections[name][ALL] = _section(table, everything, arms, drafter_ids, learned)
        if temperature == 0.0 and PLAIN in arms and table.is_timed:  # a replay has one text for all
            pairs = list(_pairs_with_plain(table))
            equal, compared = sum(pairs), len(pairs)
    if not sections:
        raise ConfigError("No question has been answered by every arm yet; go on with --resume.")
    return QuestionReport(
        tuple(drafter_ids), learned, sections, (equal, compared), num_questions, num_left_out, tuple(conversations)
    )


def _section(table: _Table, own: np.ndarray, arms: Sequence[str], drafter_ids: Sequence[str], learned: str) -> Section:
    questions = table.questions[own]
    tokens = {arm: values[own] for arm, values in table.tokens.items()}
    passes = {arm: values[own] for arm, values in table.passes.items()}
    seconds = {arm: values[own] for arm, values in table.seconds.items()}
    drafters = [arm for arm in arms if arm in drafter_ids]
    best = np.max([tokens[d] / passes[d] for d in drafters], axis=0) if drafters else np.full(len(questions), np.nan)
    cells = {}
    for arm in arms:
        shares = tokens[arm] / passes[arm] / best
        cells[arm] = Cell(
            answers=len(questions),
            tokens=int(tokens[arm].sum()),
            passes=round(float(passes[arm].sum()), 3),
            mean_accepted_tokens=_over(questions, tokens[arm], passes[arm]),
            share_of_best_fixed=_over(questions, shares, np.ones(len(shares))),
            over_plain=_rates(questions, tokens, seconds, arm, PLAIN) if table.is_timed and PLAIN in arms else None,
        )
    fastest = None
    if table.is_timed and drafters:
        fastest = max(drafters, key=lambda d: tokens[d].sum() / max(seconds[d].sum(), 1e-12))
    has_learned = learned in arms
    return Section(
        cells,
        {arm: _rates(questions, tokens, passes, learned, arm) for arm in arms if has_learned and arm != learned},
        fastest,
        _rates(questions, tokens, seconds, learned, fastest) if has_learned and fastest is not None else None,
    )


def _over(questions: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> Ratio:
    """Return the ratio of sums with an interval over questions: the turns of one question stay together."""
    _, index = np.unique(questions, return_inverse=True)
    return ratio(np.bincount(index, top).tolist(), np.bincount(index, bottom).tolist())


def _rates(
    questions: np.ndarray, tokens: Mapping[str, np.ndarray], costs: Mapping[str, np.ndarray], arm: str, other: str
) -> Ratio:
    """Return an arm's tokens per cost / another one's, both on the same questions in every resample."""
    _, index = np.unique(questions, return_inverse=True)
    sums = [np.bincount(index, v) for v in (tokens[arm], costs[other], costs[arm], tokens[other])]
    return product_ratio(*sums)


def product_ratio(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> Ratio:
    """Return (sum a * sum b) / (sum c * sum d) with a percentile bootstrap interval over their common entries."""
    picks = np.random.default_rng(0).integers(0, len(a), (NUM_RESAMPLES, len(a)))
    sums = [values[picks].sum(axis=1) for values in (a, b, c, d)]
    low, high = np.quantile(sums[0] * sums[1] / np.maximum(sums[2] * sums[3], 1e-12), [0.025, 0.975])
    value = a.sum() * b.sum() / max(c.sum() * d.sum(), 1e-12)
    return Ratio(float(value), float(low), float(high))


def _pairs_with_plain(table: _Table) -> Iterator[bool]:
    """Tell of every answer of the other arms whether its text is plain decoding's."""
    for arm, answers in table.answers.items():
        if arm != PLAIN:
            yield from (own.digest == plain.digest for own, plain in zip(answers, table.answers[PLAIN], strict=True))
