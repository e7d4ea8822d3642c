"""The command `hedgespec bench heads`: drafts and scores of EAGLE-3 heads beside the time to read their bytes."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.commands.option_types import Graphs, JsonFile, OnDevice, Shape, Threads
from deployments.commands.reports import progress_bar, show_table, write_json


def heads(
    shape: Shape = "tiny",
    count: Annotated[int, typer.Option(min=1, max=64, help="Heads in one process.")] = 7,
    draft: Annotated[int, typer.Option(min=1, max=16, help="Tokens of a draft.")] = 5,
    score: Annotated[int, typer.Option(min=1, max=512, help="Tokens that one call scores.")] = 16,
    context: Annotated[int, typer.Option(min=2, help="Tokens of the prompt.")] = 256,
    device: OnDevice = "cpu",
    threads: Threads = 1,
    repeats: Annotated[int, typer.Option(min=2, help="Timed repeats.")] = 15,
    graphs: Graphs = False,
    json: JsonFile = None,
) -> None:
    """Time of EAGLE-3 heads with random weights: one head's draft, and the scores of several.

    Scores are measured for each head by itself and for all together, as in a `group`; on a CPU that supports it also with
    weights in int8, as in a replica. The floor is the time to read the weights' bytes.
    """
    import torch

    from hedgespec.bench.heads import measure_heads, random_heads
    from hedgespec.bench.shapes import head_config

    torch.set_num_threads(threads)
    config = head_config(shape)
    if context + score * (repeats + 2) + 16 > config.max_positions:
        raise typer.BadParameter(f"this head's context has {config.max_positions} tokens; lower --context or --repeats")
    with progress_bar("repeats", repeats) as advance:
        report = measure_heads(random_heads(config, count, device), draft, score, context, repeats, graphs, advance)
    show_table(
        f"{count} heads of {report.head_bytes / 1e6:.1f} MB, copy bandwidth {report.copy_bytes_per_s / 1e9:.1f} GB/s",
        ("", "median ms", "floor ms", "x floor"),
        [(c.what, f"{c.median_ms:.2f}", f"{c.floor_ms:.2f}", f"{c.ratio:.2f}") for c in report.costs],
    )
    settings = {"shape": shape, "draft": draft, "score": score, "context": context, "device": device}
    write_json(json, report, command="bench heads", **settings, threads=threads, repeats=repeats, graphs=graphs)
