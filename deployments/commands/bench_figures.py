"""The command `hedgespec bench figures`: pictures from the JSON files that other commands wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deployments.commands.reports import console


def figures(
    policies: Annotated[Path | None, typer.Option(help="JSON of `hedgespec bench policies`.")] = None,
    rewrite: Annotated[Path | None, typer.Option(help="JSON of `hedgespec bench policies --rewrite`.")] = None,
    studies: Annotated[Path | None, typer.Option(help="JSON of `hedgespec simulate study all`.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures and their numbers.")] = Path("docs/figures"),
) -> None:
    """Draw every picture that the given JSON files allow, and write each one's numbers beside it."""
    from hedgespec.bench.figures.gallery import draw_figures

    for path in draw_figures(policies, rewrite, studies, out):
        console.print(f"Wrote {path}")
