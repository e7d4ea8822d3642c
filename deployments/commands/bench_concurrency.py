"""`hedgespec bench decode --concurrency N`: many answers at once in one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from deployments.commands.reports import console, progress_bar, write_json
from hedgespec.bench.concurrency import ConcurrencyReport, concurrency_json, measure_concurrency
from hedgespec.config import AppArgs
from hedgespec.tokenization import Tokenizer
from hedgespec.types import SamplingParams

WorkOf = Callable[[Tokenizer], Mapping[str, Sequence[NDArray[np.int32]]]]
"""domain -> prompts"""


def concurrent_decode(
    args: AppArgs,
    work_of: WorkOf,
    sampling: SamplingParams,
    concurrencies: Sequence[int],
    repeats: int,
    json: Path | None,
) -> None:
    """Raises BadParameter for more answers at once than the target takes."""
    from hedgespec.assembly.local_service import local_service

    if max(concurrencies) > args.target.max_sessions:
        raise typer.BadParameter(f"the target takes {args.target.max_sessions} sessions (target.max_sessions)")
    drafter_ids = [d.id for d in args.drafters]

    async def run() -> ConcurrencyReport:
        async with local_service(args) as local:
            prompts = alternating(work_of(local.tokenizer))
            num_cases = (3 if drafter_ids else 1) * len({1, *concurrencies})
            with progress_bar("decoding", len(drafter_ids) + repeats * num_cases) as advance:
                return await measure_concurrency(
                    local.service,
                    local.service.drain,
                    drafter_ids,
                    prompts,
                    sampling,
                    concurrencies,
                    repeats,
                    advance,
                )

    report = asyncio.run(run())
    show(report)
    settings = {"concurrency": list(concurrencies), "repeats": repeats, "temperature": sampling.temperature}
    write_json(json, concurrency_json(report), command="bench decode --concurrency", **settings)


def alternating(work: Mapping[str, Sequence[NDArray[np.int32]]]) -> list[NDArray[np.int32]]:
    """The first prompt of every domain, then the second of every domain, ..."""
    rows = list(work.values())
    return [row[index] for index in range(max(map(len, rows))) for row in rows if index < len(row)]


def show(report: ConcurrencyReport) -> None:
    table = Table(
        title=f"{report.num_answers} answers of {report.max_tokens} tokens, temperature {report.temperature:g}: medians"
    )
    for column in ("arm", "at once", "tokens/s", "x one after the other", "x plain", "mean accepted tokens"):
        table.add_column(column, justify="right")
    for arm, by_level in report.results.items():
        for level, result in by_level.items():
            figures = (
                f"{np.median(result.tokens_per_s):.1f}",
                f"{report.speedup(arm, level):.2f}",
                f"{report.over_plain(arm, level):.2f}",
                f"{result.mean_accepted_tokens:.2f}",
            )
            table.add_row(arm, str(level), *figures)
    console.print(table)
    if report.singles:
        console.print(f"best single drafter in a trial of each, one answer at a time: {report.best_single}")
