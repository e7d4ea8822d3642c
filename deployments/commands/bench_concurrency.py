"""The option `hedgespec bench decode --concurrency N`: several answers at once in one process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from deployments.commands.held_out import encoded
from deployments.commands.reports import console, progress_bar, write_json
from hedgespec.bench.concurrency import ConcurrencyReport, measure_concurrency
from hedgespec.config import AppArgs
from hedgespec.types import SamplingParams


def concurrent_decode(
    args: AppArgs,
    texts: Mapping[str, Sequence[str]],
    sampling: SamplingParams,
    concurrencies: Sequence[int],
    repeats: int,
    json: Path | None,
) -> None:
    """Measure and print. texts: by domain. Raises BadParameter for more answers at once than the target has sessions."""
    from hedgespec.assembly.local_service import local_service

    if max(concurrencies) > args.target.max_sessions:
        raise typer.BadParameter(f"the target takes {args.target.max_sessions} sessions (target.max_sessions)")
    ids = [d.id for d in args.drafters]

    async def run() -> ConcurrencyReport:
        async with local_service(args) as local:
            prompts = alternating(encoded(local.tokenizer, texts))
            num_cases = (3 if ids else 1) * len({1, *concurrencies})
            with progress_bar("decoding", len(ids) + repeats * num_cases) as advance:
                return await measure_concurrency(local.service, ids, prompts, sampling, concurrencies, repeats, advance)

    report = asyncio.run(run())
    show_concurrency(report)
    settings = {"concurrency": list(concurrencies), "repeats": repeats, "temperature": sampling.temperature}
    write_json(json, report.as_json(), command="bench decode --concurrency", **settings)


def alternating(work: Mapping[str, Sequence[NDArray[np.int32]]]) -> list[NDArray[np.int32]]:
    """Return the first prompt of every domain, then the second of every domain, and so on."""
    rows = list(work.values())
    return [row[index] for index in range(max(map(len, rows))) for row in rows if index < len(row)]


def show_concurrency(report: ConcurrencyReport) -> None:
    """Print a row per arm and concurrency."""
    table = Table(
        title=f"{report.num_answers} answers of {report.max_tokens} tokens, temperature {report.temperature:g}: medians"
    )
    for column in ("arm", "at once", "tokens/s", "x one after the other", "x plain", "mean accepted tokens"):
        table.add_column(column, justify="right")
    for arm, by_level in report.results.items():
        for level, result in by_level.items():
            figures = (
                f"{report.tokens_per_s(arm, level):.1f}",
                f"{report.speedup(arm, level):.2f}",
                f"{report.over_plain(arm, level):.2f}",
                f"{result.mean_accepted_tokens.value:.2f}",
            )
            table.add_row(arm, str(level), *figures)
    console.print(table)
    if report.singles:
        console.print(f"best single drafter in a trial of each, one answer at a time: {report.best_single}")
