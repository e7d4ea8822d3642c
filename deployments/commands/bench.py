"""The command `hedgespec bench`: benchmarks that compare side by side in one run, as tables and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deployments.commands.bench_decode import decode
from deployments.commands.bench_models import engine, heads, synthetic
from deployments.commands.bench_overheads import acceptance, overheads
from deployments.commands.bench_parts import learner, rpc
from deployments.commands.bench_peers import peers
from deployments.commands.bench_policies import policies
from deployments.commands.bench_serve import serve
from deployments.commands.reports import console
from hedgespec.bench.figures.gallery import draw_figures

app = typer.Typer(no_args_is_help=True, help="Measure speed and acceptance, side by side in one run.")
for command in (decode, policies, peers, serve, acceptance, overheads, rpc, engine, heads, synthetic, learner):
    app.command()(command)


@app.command()
def figures(
    policies: Annotated[Path | None, typer.Option(help="JSON of `hedgespec bench policies`.")] = None,
    rewrite: Annotated[Path | None, typer.Option(help="JSON of `hedgespec bench policies --rewrite`.")] = None,
    studies: Annotated[Path | None, typer.Option(help="JSON of `hedgespec simulate study all`.")] = None,
    questions: Annotated[
        Path | None, typer.Option(help="JSON of `hedgespec simulate questions`, or of `bench policies --prompts`.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures and their numbers.")] = Path("docs/figures"),
) -> None:
    """Draw every picture that the given JSON files allow, and write each one's numbers beside it."""
    for path in draw_figures(policies, rewrite, studies, out, questions):
        console.print(f"Wrote {path}")
