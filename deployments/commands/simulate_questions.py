"""`hedgespec simulate` on the questions of a file: recorded once on any target, then replayed under every policy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from deployments.commands.bench_questions import (
    NO_ROUTER,
    TEMPERATURES,
    chosen_names,
    digest,
    file_digest,
    fitting_questions,
    read_unique,
    show_questions,
)
from deployments.commands.model_choice import chosen_args
from deployments.commands.option_types import (
    ConfigInsteadOfModel,
    JsonFile,
    ModelName,
    QuestionFile,
    RunsEach,
    Seed,
    TableFile,
    TenantOption,
)
from deployments.commands.reports import console, progress_bar, write_json
from hedgespec.assembly.local_service import open_local_fleet
from hedgespec.assembly.model_sources import ZOO, load_tokenizer, located
from hedgespec.bench.questions.arms import arm_names, replayed_arm, replayed_names
from hedgespec.bench.questions.measure import alternating
from hedgespec.bench.questions.recorder import QuestionRecorder
from hedgespec.bench.questions.recording import QuestionRecording, RecordingCost
from hedgespec.bench.questions.replay import Routed, replay_args, replay_questions, trace_weights
from hedgespec.bench.questions.report import question_report
from hedgespec.bench.questions.routing import question_router
from hedgespec.config import AppArgs
from hedgespec.errors import ConfigError

SAVE_EVERY_S = 120.0


def record_questions(
    file: Path,
    per_category: int | None,
    out: Path,
    max_tokens: int,
    draft_tokens: int,
    temperatures: Sequence[float] | None,
    model: str | None,
    config: Path | None,
    resume: bool,
    seed: int,
) -> None:
    """Record and write, now and then while it goes on. resume: keep what `out` has and add what is missing."""
    configured = chosen_args(config, model, default=ZOO)
    temperatures = tuple(dict.fromkeys(temperatures or TEMPERATURES))
    asked = read_unique(file, per_category)
    settings = {
        "questions": file_digest(file),
        "config": digest(configured.model_dump_json()),
        "max_tokens": max_tokens,
        "draft_tokens": draft_tokens,
        "seed": seed,
    }
    recording = opened(out, configured, draft_tokens, settings, resume)
    args = located(configured)
    tokenizer = load_tokenizer(args.target)
    questions = alternating(fitting_questions(asked, tokenizer, max_tokens))

    async def run() -> None:
        async with open_local_fleet(args) as fleet:
            with progress_bar("recording", len(questions) * len(temperatures)) as advance:
                last_s = time.monotonic()

                def saved() -> None:
                    nonlocal last_s
                    advance()
                    if time.monotonic() - last_s > SAVE_EVERY_S:
                        recording.save(out)
                        last_s = time.monotonic()

                await QuestionRecorder(fleet, tokenizer, recording, max_tokens, saved, seed).record(
                    questions, temperatures
                )

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        console.print("Stopped; --resume goes on.")
    recording.save(out)
    cost = recording.cost
    console.print(
        f"Wrote {len(recording.answers)} answers to {out}: {cost.num_tokens} tokens in {cost.num_passes} target passes "
        f"and {cost.seconds:.0f} s, scores included"
    )


def opened(out: Path, args: AppArgs, draft_tokens: int, settings: dict[str, Any], resume: bool) -> QuestionRecording:
    """Begin a recording, or go on with one. Raises ConfigError for one with other settings, and without drafters."""
    drafter_ids = tuple(drafter.id for drafter in args.drafters)
    arm_names(drafter_ids, has_router=True)
    if not resume:
        return QuestionRecording(drafter_ids, draft_tokens, settings, [], RecordingCost())
    if not out.exists():
        raise ConfigError(f"{out} does not exist; leave out --resume to begin it")
    recording = QuestionRecording.load(out)
    for name, wanted in settings.items():
        if recording.settings.get(name) != wanted:
            raise ConfigError(f"{out} was recorded with {name} {recording.settings.get(name)!r}, not {wanted!r}")
    return recording


def questions(
    table: TableFile,
    prompts: QuestionFile = None,
    model: ModelName = None,
    config: ConfigInsteadOfModel = None,
    policy: Annotated[list[str] | None, typer.Option(help="Only this policy; may be repeated.")] = None,
    tenant: TenantOption = "question",
    question: Annotated[
        str | None, typer.Option(help="Follow the weights along the answer to this question id.")
    ] = None,
    runs_each: RunsEach = 4,
    seed: Seed = 0,
    json: JsonFile = None,
) -> None:
    """Replay all policies on recorded answers to questions, by category, with what tenants learn from turn to turn.

    Give --prompts, the recorded question file, for the prompt router as well. The learner's settings come from --model or
    --config, its drafters from the recording. Learners count passes here: for objective `time`, whose losses are weighed
    with seconds, there is `bench policies --prompts`.
    """
    recording = QuestionRecording.load(table)
    configured = chosen_args(config, model, default=ZOO)
    args = replay_args(configured, recording)
    routed = routes(prompts, recording, configured.target.model)
    names = chosen_names(replayed_names(arm_names(recording.drafter_ids, bool(routed))), policy)
    started = time.perf_counter()
    with progress_bar("replaying", len(names)) as advance:
        had = replay_questions(recording, args, names, routed, tenant, runs_each, seed, advance)
    report = question_report(had, names, recording.drafter_ids, replayed_arm())
    show_questions(report, recording.settings["max_tokens"])
    trace = trace_weights(recording, args, question, seed)
    if trace is None:
        raise typer.BadParameter(f"no question {question!r} is recorded in {table}")
    console.print(f"replayed in {time.perf_counter() - started:.0f} s; recorded in {recording.cost.seconds:.0f} s")
    content = {**report.as_json(), "weights": trace, "recording": recording.cost}
    settings = {**recording.settings, "policies": names, "tenant": tenant, "runs_each": runs_each, "seed": seed}
    write_json(json, content, command="simulate questions", **settings)


def routes(file: Path | None, recording: QuestionRecording, target_model: str) -> Routed:
    """Return what a prompt router picks for every turn; nothing without a question file or a router.

    Raises ConfigError for a file that lacks a recorded question.
    """
    if file is None:
        return {}
    router = question_router(target_model, recording.drafter_ids)
    if router is None:
        console.print(NO_ROUTER)
        return {}
    if file_digest(file) != recording.settings["questions"]:
        raise ConfigError(f"{file} is not the file that was recorded")
    asked = {question.question_id: question.turns for question in read_unique(file, None)}
    recorded = {answer.question_id for answer in recording.answers}
    return {
        question_id: [router.domain("\n".join(turns[: turn + 1])) for turn in range(len(turns))]
        for question_id, turns in asked.items()
        if question_id in recorded
    }
