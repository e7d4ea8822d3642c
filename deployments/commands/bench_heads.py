"""`hedgespec bench heads`: drafts and scores of EAGLE-3 heads beside the time that their bytes need."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from deployments.commands.reports import console, progress_bar, write_json


def heads(
    shape: Annotated[str, typer.Option(help="Of the target: tiny, llama-3.2-1b, llama-3.1-8b, qwen3-8b.")] = "tiny",
    count: Annotated[int, typer.Option(min=1, max=64, help="Heads in one process.")] = 7,
    draft: Annotated[int, typer.Option(min=1, max=16, help="Tokens of a draft.")] = 5,
    score: Annotated[int, typer.Option(min=1, max=512, help="Tokens of a score: one call tells about so many.")] = 16,
    context: Annotated[int, typer.Option(min=2)] = 256,
    device: Annotated[Literal["cpu", "cuda"], typer.Option()] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="torch threads on the CPU.")] = 1,
    repeats: Annotated[int, typer.Option(min=2)] = 15,
    graphs: Annotated[
        bool, typer.Option(help="On CUDA: in graphs, as a replica does. On the CPU: static passes.")
    ] = False,
    json: Annotated[Path | None, typer.Option("--json", help="Also write the report to this file.")] = None,
) -> None:
    """One head's draft loop, and the scores of several heads: each by itself, and together as in a `group`; on the CPU
    also with weights in int8, as a replica has them."""
    import torch

    from hedgespec.bench.heads import measure_heads, random_heads
    from hedgespec.bench.shapes import head_config

    torch.set_num_threads(threads)
    config = head_config(shape)
    if context + score * (repeats + 2) + 16 > config.max_positions:
        raise typer.BadParameter(f"this head's context has {config.max_positions} tokens; lower --context or --repeats")
    with progress_bar("repeats", repeats) as advance:
        report = measure_heads(random_heads(config, count, device), draft, score, context, repeats, graphs, advance)
    table = Table(title=f"{count} heads of {report.head_bytes / 1e6:.1f} MB, copy bandwidth "
                  f"{report.copy_bytes_per_s / 1e9:.1f} GB/s")  # fmt: skip
    for column in ("", "median ms", "floor ms", "x floor"):
        table.add_column(column, justify="left" if not column else "right")
    for cost in report.costs:
        table.add_row(cost.what, f"{cost.median_ms:.2f}", f"{cost.floor_ms:.2f}", f"{cost.ratio:.2f}")
    console.print(table)
    settings = {"shape": shape, "draft": draft, "score": score, "context": context, "device": device}
    write_json(json, report, command="bench heads", **settings, threads=threads, repeats=repeats, graphs=graphs)
