"""`hedgespec simulate`: record answers once, then replay any policy on them exactly and fast."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from deployments.commands.bench import ConfigFile, JsonFile, held_out
from deployments.commands.loading import read_args
from deployments.commands.reports import console, progress_bar, write_json

if TYPE_CHECKING:
    from hedgespec.bench.simulation.recording import Recording
    from hedgespec.bench.simulation.studies.study import Study
    from hedgespec.bench.simulation.workbench import Workbench

app = typer.Typer(no_args_is_help=True, help="Record answers once, then replay any policy on them.")

TableFile = Annotated[Path, typer.Option("--table", help="What `hedgespec simulate record` has written.")]
RunsEach = Annotated[int, typer.Option(min=1, help="Replays per answer.")]
Seed = Annotated[int, typer.Option(min=0)]

ALL = "all"


@app.command()
def record(
    out: Annotated[Path, typer.Option(help="File to write (NumPy .npz).")],
    prompts: Annotated[int, typer.Option(min=1, help="Held-out prompts per domain.")] = 10,
    max_tokens: Annotated[int, typer.Option(min=2)] = 256,
    draft_tokens: Annotated[int, typer.Option(min=1, max=16)] = 5,
    config: ConfigFile = None,
    seed: Seed = 0,
) -> None:
    """Decode held-out prompts at temperatures 0 and 1 and keep how every drafter would have fared on every token."""
    from hedgespec.assembly.local_fleet import open_local_fleet
    from hedgespec.assembly.model_sources import load_tokenizer
    from hedgespec.bench.simulation.record import record as record_answers

    args = read_args(config)
    work = held_out(load_tokenizer(args.target), None, prompts)
    temperatures = (0.0, 1.0)

    async def run() -> Recording:
        async with open_local_fleet(args) as fleet:
            with progress_bar("recording", len(temperatures) * sum(map(len, work.values()))) as advance:
                return await record_answers(fleet, work, temperatures, draft_tokens, max_tokens, advance, seed)

    recording = asyncio.run(run())
    recording.save(out)
    console.print(f"Wrote {recording.num_answers} answers of {recording.num_tokens} tokens to {out}")


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="A study, or `all`.")],
    table: TableFile,
    runs_each: RunsEach = 16,
    seed: Seed = 0,
    json: JsonFile = None,
) -> None:
    """Replay one question, or all of them."""
    from hedgespec.bench.simulation.studies import STUDIES

    if name not in (*STUDIES, ALL):
        raise typer.BadParameter(f"no such study: {name!r}; there are {[*STUDIES, ALL]}")
    chosen = list(STUDIES) if name == ALL else [name]
    studies = run_studies(chosen, open_bench(table, runs_each, seed))
    for result in studies.values():
        show_study(result)
    if name == ALL:
        show_targets(studies)
    write_json(json, studies, command=f"simulate study {name}", runs_each=runs_each, seed=seed)


@app.command()
def check(table: TableFile, runs_each: RunsEach = 16, seed: Seed = 0, json: JsonFile = None) -> None:
    """What the learner is held to, measured: PASS or MISS. Exits with 1 when something is missed."""
    from hedgespec.bench.simulation.targets import NEEDED, targets

    studies = run_studies(NEEDED, open_bench(table, runs_each, seed))
    show_targets(studies)
    write_json(json, targets(studies), command="simulate check", runs_each=runs_each, seed=seed)
    if any(target.verdict == "MISS" for target in targets(studies)):
        raise typer.Exit(1)


def open_bench(table: Path, runs_each: int, seed: int) -> Workbench:
    from hedgespec.bench.simulation.recording import Recording
    from hedgespec.bench.simulation.workbench import Workbench

    return Workbench(Recording.load(table), runs_each, seed)


def run_studies(names: Sequence[str], bench: Workbench) -> dict[str, Study]:
    from hedgespec.bench.simulation.studies import STUDIES

    results = {}
    with progress_bar("studies", len(names)) as advance:
        for name in names:
            results[name] = STUDIES[name](bench)
            advance()
    return results


def show_study(result: Study) -> None:
    table = Table(title=result.name, caption=result.notes)
    for column in result.rows[0]:
        table.add_column(column, justify="right")
    for row in result.rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    console.print(table)


def show_targets(studies: Mapping[str, Study]) -> None:
    from hedgespec.bench.simulation.targets import targets

    table = Table(title="what the learner is held to")
    for column in ("target", "limit", "measured", ""):
        table.add_column(column)
    for target in targets(studies):
        limit = f"{'>=' if target.at_least else '<='} {target.limit:.3g}"
        measured = "" if target.measured is None else f"{target.measured:.3f}"
        table.add_row(target.name, limit, measured, target.verdict)
    console.print(table)
