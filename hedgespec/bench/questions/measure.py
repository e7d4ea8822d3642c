"""Put the questions of a file to all arms, live (`hedgespec bench policies --prompts FILE`).

Arms take turns on each question and questions on each category: a run that is stopped, or disturbed for a while, is fair
as far as it got.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hedgespec.bench.answers import rotated
from hedgespec.bench.question_file import Question, by_category
from hedgespec.bench.questions.conversation import Arm, TenantPer, chat_prompt, converse, fits
from hedgespec.bench.questions.journal import Journal
from hedgespec.tokenization import Tokenizer


async def measure_questions(
    arms: Sequence[Arm],
    questions: Sequence[Question],
    tokenizer: Tokenizer,
    temperatures: Sequence[float],
    max_tokens: int,
    tenant_per: TenantPer,
    journal: Journal,
    advance: Callable[[], None],
) -> None:
    """Have every conversation that the journal does not hold yet, and add it there. advance: called after each.

    Learners first learn again what the journal's conversations taught.
    """
    by_name = {arm.name: arm for arm in arms}
    for earlier in journal.conversations:
        for answer in earlier.answers:
            if answer.learned is not None and earlier.arm in by_name:
                by_name[earlier.arm].preferences.learn_again(answer.learned)
    for number, question in enumerate(questions):
        for at, temperature in enumerate(temperatures):
            # no arm always goes first and finds the caches cold
            for arm in rotated(arms, number + at):
                if (question.question_id, temperature, arm.name) not in journal:
                    journal.add(await converse(arm, question, temperature, max_tokens, tokenizer, tenant_per))
                advance()


def alternating(questions: Sequence[Question]) -> list[Question]:
    """Return the first question of every category, then the second of every category, and so on."""
    rows = list(by_category(list(questions)).values())
    return [row[index] for index in range(max(map(len, rows), default=0)) for row in rows if index < len(row)]


def fitting(questions: Sequence[Question], tokenizer: Tokenizer, max_tokens: int) -> list[Question]:
    """Return the questions whose first turn fits into the target's context, with an answer of `max_tokens`."""
    first = [chat_prompt(tokenizer, [{"role": "user", "content": question.turns[0]}]) for question in questions]
    return [q for q, ids in zip(questions, first, strict=True) if fits(tokenizer, ids, max_tokens)]
