"""`hedgespec bench policies` on the questions of a file: any target, by category, and the table that `simulate` shares."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from deployments.commands.inputs import without_prefix_cache
from deployments.commands.model_choice import chosen_args
from deployments.commands.reports import console, progress_bar, show_table, write_json
from hedgespec.assembly.local_service import local_service
from hedgespec.assembly.model_sources import ZOO
from hedgespec.bench.question_file import Question, read_questions
from hedgespec.bench.questions.arms import PROMPT_ROUTER, arm_names, default_arm, question_arms
from hedgespec.bench.questions.conversation import TenantPer
from hedgespec.bench.questions.journal import Journal
from hedgespec.bench.questions.measure import alternating, fitting, measure_questions
from hedgespec.bench.questions.report import ALL, QuestionReport, Section, question_report
from hedgespec.bench.questions.routing import question_router
from hedgespec.errors import ConfigError

TEMPERATURES = (0.0, 0.7)
NO_ROUTER = "No prompt router: there are no questions to train it on for two or more of these drafters."


def compare_on_questions(
    file: Path,
    per_category: int | None,
    model: str | None,
    config: Path | None,
    max_tokens: int,
    temperatures: Sequence[float] | None,
    policies: list[str] | None,
    tenant_per: TenantPer,
    resume: Path | None,
    json: Path | None,
) -> None:
    """Measure, print and write. per_category: questions of each category; None is all. resume: the journal of the run."""
    args = without_prefix_cache(chosen_args(config, model, default=ZOO))
    questions = read_unique(file, per_category)
    temperatures = tuple(dict.fromkeys(temperatures or TEMPERATURES))
    drafter_ids = [drafter.id for drafter in args.drafters]
    is_router_wanted = not policies or PROMPT_ROUTER in policies
    router = question_router(args.target.model, drafter_ids) if is_router_wanted else None
    if router is None and is_router_wanted:
        console.print(NO_ROUTER)
    names = chosen_names(arm_names(drafter_ids, router is not None), policies)
    settings: dict[str, Any] = {
        "questions": file_digest(file),
        "config": digest(args.model_dump_json()),
        "policies": names,
        "temperatures": temperatures,
        "max_tokens": max_tokens,
        "tenant": tenant_per,
    }
    journal = Journal.open(resume, settings)

    async def run() -> None:
        async with local_service(args) as local:
            work = alternating(fitting_questions(questions, local.tokenizer, max_tokens))
            arms = [arm for arm in question_arms(args, local, router) if arm.name in names]
            with progress_bar("answering", len(work) * len(temperatures) * len(arms)) as advance:
                await measure_questions(
                    arms, work, local.tokenizer, temperatures, max_tokens, tenant_per, journal, advance
                )

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        console.print("Stopped; this is what was complete." + (f" --resume {resume} goes on." if resume else ""))
    wanted = {question.question_id for question in questions}
    had = [conversation for conversation in journal.conversations if conversation.question_id in wanted]
    report = question_report(had, names, drafter_ids, default_arm())
    show_questions(report, max_tokens)
    write_json(json, report, command="bench policies --prompts", **settings, num_prompts=per_category)


def read_unique(file: Path, per_category: int | None) -> list[Question]:
    """Read a question file. Raises ConfigError, also for an id that occurs twice."""
    questions = read_questions(file, per_category)
    ids = [question.question_id for question in questions]
    if repeated := sorted({i for i in ids if ids.count(i) > 1}):
        raise ConfigError(f"{file}: question_id must be unique, repeated: {repeated[:5]}")
    return questions


def fitting_questions(questions: Sequence[Question], tokenizer: Any, max_tokens: int) -> list[Question]:
    """Return the questions that fit into the target's context, and say how many do not. Raises ConfigError for none."""
    fits = fitting(questions, tokenizer, max_tokens)
    if not fits:
        raise ConfigError(f"No question fits into the target's context of {tokenizer.max_model_len} tokens.")
    if len(fits) < len(questions):
        left_out = len(questions) - len(fits)
        console.print(f"{left_out} questions are left out: longer than the target's {tokenizer.max_model_len} tokens.")
    return fits


def chosen_names(names: list[str], wanted: list[str] | None) -> list[str]:
    """Return the wanted arms, or all. Raises BadParameter for an unknown name."""
    if unknown := sorted(set(wanted or ()) - set(names)):
        raise typer.BadParameter(f"no such policy: {unknown}; there are {names}")
    return [name for name in names if not wanted or name in wanted]


def show_questions(report: QuestionReport, max_tokens: int) -> None:
    """Print the tables of every temperature: arms by category, with intervals over all questions."""
    for temperature, sections in report.sections.items():
        described = (
            f"temperature {temperature}, {report.num_questions[temperature]} questions, at most {max_tokens} tokens"
        )
        for title, pick in (
            ("mean accepted tokens", "mean_accepted_tokens"),
            ("share of the best fixed drafter of each answer", "share_of_best_fixed"),
            ("tokens/s over plain", "over_plain"),
        ):
            for block in blocks([category for category in sections if category != ALL]):
                show_block(f"{title}, {described}", pick, {category: sections[category] for category in block})
            show_block(f"{title}, {described}", pick, {ALL: sections[ALL]})
        show_learned(report, sections[ALL].learned_over)
        rows = [
            [c, str(s.fastest_drafter), str(s.speed_share)] for c, s in sections.items() if s.speed_share is not None
        ]
        if rows:
            title = f"tokens/s of {report.learned} over the fastest single drafter's, temperature {temperature}"
            show_table(title, ["", "fastest", "ratio"], rows)
    equal, compared = report.same_text
    if compared:
        console.print(f"greedy answers equal to plain decoding's: {equal} of {compared}")
    if report.num_left_out:
        console.print(f"{report.num_left_out} questions are left out: not every policy has finished them.")


def blocks(categories: Sequence[str]) -> Iterator[Sequence[str]]:
    """Divide categories into as many as one table has room for: a table that is too wide for its console says nothing."""
    room = console.width - 24  # beside the names of the arms
    block: list[str] = []
    for category in categories:
        if block and sum(max(len(name), 4) + 3 for name in (*block, category)) > room:
            yield block
            block = []
        block.append(category)
    if block:
        yield block


def show_block(title: str, pick: str, sections: Mapping[str, Section]) -> None:
    """Print one figure of every arm, with its interval over all questions; nothing where it was not measured."""
    rows = []
    for arm in next(iter(sections.values())).cells:
        values = {category: getattr(section.cells[arm], pick) for category, section in sections.items()}
        if any(value is None for value in values.values()):
            return
        rows.append([arm, *(str(v) if category == ALL else f"{v.value:.2f}" for category, v in values.items())])
    show_table(title, ["policy", *sections], rows)


def show_learned(report: QuestionReport, learned_over: Any) -> None:
    """Print the default learner's mean accepted tokens over every other arm's."""
    if learned_over:
        over = ", ".join(f"{arm} {value}" for arm, value in learned_over.items())
        console.print(f"mean accepted tokens of {report.learned} over those of: {over}")


def file_digest(file: Path) -> str:
    """Return a digest of a file's bytes."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def digest(text: str) -> str:
    """Return a digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
