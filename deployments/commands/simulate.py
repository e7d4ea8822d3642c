"""The command `hedgespec simulate`: record answers once, then replay any policy on them exactly and fast."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from deployments.commands.inputs import encoded, held_out_texts, total_prompts
from deployments.commands.model_choice import chosen_args
from deployments.commands.option_types import (
    ConfigInsteadOfModel,
    JsonFile,
    MaxTokens,
    ModelName,
    PromptsOrQuestions,
    QuestionFile,
    RunsEach,
    Seed,
    TableFile,
    Temperatures,
)
from deployments.commands.reports import console, progress_bar, show_table, write_json
from deployments.commands.simulate_questions import questions, record_questions
from hedgespec.assembly.local_service import open_local_fleet
from hedgespec.assembly.model_sources import ZOO, load_tokenizer, located
from hedgespec.bench.simulation.goals import NEEDED, goals
from hedgespec.bench.simulation.recorder import record as record_answers
from hedgespec.bench.simulation.recording import Recording
from hedgespec.bench.simulation.studies import STUDIES
from hedgespec.bench.simulation.studies.study import Study
from hedgespec.bench.simulation.workbench import Workbench

app = typer.Typer(no_args_is_help=True, help="Record answers once, then replay on them any way to choose drafters.")

ALL = "all"
NUM_PROMPTS = 10


@app.command()
def record(
    out: Annotated[Path, typer.Option(help="File to write (NumPy .npz).")],
    prompts: QuestionFile = None,
    num_prompts: PromptsOrQuestions = None,
    max_tokens: MaxTokens = 256,
    draft_tokens: Annotated[int, typer.Option(min=1, max=16, help="Longest draft to score, in tokens.")] = 5,
    temperature: Temperatures = None,
    model: ModelName = None,
    config: ConfigInsteadOfModel = None,
    resume: Annotated[bool, typer.Option("--resume", help="With --prompts: go on with the file --out.")] = False,
    seed: Seed = 0,
) -> None:
    """Decode prompts and record how every drafter would have fared on every token.

    By default the zoo's held-out prompts at temperatures 0 and 1, for `simulate study`. With --prompts the questions of a
    file at 0 and 0.7, for `simulate questions`.
    """
    if prompts is not None:
        record_questions(prompts, num_prompts, out, max_tokens, draft_tokens, temperature, model, config, resume, seed)
        return
    if resume or temperature:
        raise typer.BadParameter("--resume and --temperature are for a question file; give one with --prompts FILE")
    num_prompts = num_prompts or NUM_PROMPTS
    args = located(chosen_args(config, model, default=ZOO))
    work = encoded(load_tokenizer(args.target), held_out_texts(None, num_prompts))
    temperatures = (0.0, 1.0)

    async def run() -> Recording:
        async with open_local_fleet(args) as fleet:
            with progress_bar("recording", len(temperatures) * total_prompts(work)) as advance:
                return await record_answers(fleet, work, temperatures, draft_tokens, max_tokens, advance, seed)

    recording = asyncio.run(run())
    recording.save(out)
    console.print(f"Wrote {recording.num_answers} answers of {recording.num_tokens} tokens to {out}")


app.command()(questions)


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="A study, or `all`; an unknown name lists them.")],
    table: TableFile,
    runs_each: RunsEach = 16,
    seed: Seed = 0,
    json: JsonFile = None,
) -> None:
    """Replay one study of how to choose drafters, or all of them, and print its table."""
    if name not in (*STUDIES, ALL):
        raise typer.BadParameter(f"no such study: {name!r}; there are {[*STUDIES, ALL]}")
    chosen = list(STUDIES) if name == ALL else [name]
    studies = run_studies(chosen, table, runs_each, seed)
    for result in studies.values():
        show_study(result)
    if name == ALL:
        show_goals(studies)
    write_json(json, studies, command=f"simulate study {name}", runs_each=runs_each, seed=seed)


@app.command()
def check(table: TableFile, runs_each: RunsEach = 16, seed: Seed = 0, json: JsonFile = None) -> None:
    """Measure the learner's goals on a recording: PASS or MISS. Exits with 1 when a goal is missed."""
    studies = run_studies(NEEDED, table, runs_each, seed)
    show_goals(studies)
    write_json(json, goals(studies), command="simulate check", runs_each=runs_each, seed=seed)
    if any(goal.verdict == "MISS" for goal in goals(studies)):
        raise typer.Exit(1)


def run_studies(names: Sequence[str], table: Path, runs_each: int, seed: int) -> dict[str, Study]:
    """Run studies by name on a recording."""
    bench = Workbench(Recording.load(table), runs_each, seed)
    results = {}
    with progress_bar("studies", len(names)) as advance:
        for name in names:
            results[name] = STUDIES[name](bench)
            advance()
    return results


def show_study(result: Study) -> None:
    """Print the table of a study."""
    rows = [["" if value is None else str(value) for value in row.values()] for row in result.rows]
    show_table(result.name, list(result.rows[0]), rows, caption=result.notes)


def show_goals(studies: Mapping[str, Study]) -> None:
    """Print every goal with its limit, its measured value and the verdict."""
    rows = []
    for goal in goals(studies):
        limit = f"{'>=' if goal.at_least else '<='} {goal.limit:.3g}"
        measured = "" if goal.measured is None else f"{goal.measured:.3f}"
        rows.append((goal.name, limit, measured, goal.verdict))
    show_table("goals of the learner", ("goal", "limit", "measured", ""), rows)
