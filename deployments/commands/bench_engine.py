"""The command `hedgespec bench engine`: the target's step beside the time to read its bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deployments.commands.option_types import Graphs, JsonFile, OnDevice, Threads
from deployments.commands.reports import progress_bar, show_table, write_json
from hedgespec import zoo


def engine(
    shape: Annotated[
        str | None, typer.Option(help="Use random weights of this shape: tiny, llama-3.2-1b, llama-3.1-8b or qwen3-8b.")
    ] = None,
    target: Annotated[Path | None, typer.Option(help="Folder of a target (default: the zoo's target).")] = None,
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="Sessions in a step; may be repeated. (default: 1, 4, 8, 16, 32)")
    ] = None,
    block: Annotated[
        list[int] | None, typer.Option(min=1, help="New tokens per session; may be repeated. (default: 1, 4, 6, 8, 16)")
    ] = None,
    context: Annotated[
        list[int] | None, typer.Option(min=1, help="Cached tokens per session; may be repeated. (default: 128, 1024)")
    ] = None,
    device: OnDevice = "cpu",
    threads: Threads = 1,
    repeats: Annotated[int, typer.Option(min=2, help="Timed repeats of every step.")] = 9,
    graphs: Graphs = False,
    json: JsonFile = None,
) -> None:
    """Time of a target's step by batch, block and context, beside a single step and the memory bandwidth."""
    import torch

    from hedgespec.bench.engine import measure_engine, model_size
    from hedgespec.bench.shapes import random_causal_lm
    from hedgespec.models.causal_lm.folder import load_causal_lm
    from hedgespec.models.graphs.static_passes import use_static_passes
    from hedgespec.models.lean.lean_network import accelerate

    if shape is not None and target is not None:
        raise typer.BadParameter("give --shape or --target, not both")
    torch.set_num_threads(threads)
    folder = target or zoo.target_folder()
    model = random_causal_lm(shape, device) if shape is not None else load_causal_lm(folder, device, "target")
    batches, blocks, contexts = batch or [1, 4, 8, 16, 32], block or [1, 4, 6, 8, 16], context or [128, 1024]
    if max(contexts) + max(blocks) > model.max_positions:
        raise typer.BadParameter(f"this model's context has {model.max_positions} tokens; lower --context")
    size = model_size(model.model)
    accelerate(model)
    if graphs:
        use_static_passes(model, max(batches), max(contexts) + 2 * max(blocks))
    with progress_bar("steps", len(batches) * len(contexts)) as advance:
        report = measure_engine(model, size, sorted(batches), sorted(blocks), sorted(contexts), repeats, advance)
    rows = []
    for step in report.steps:
        shown = (f"{step.median_ms:.2f}", f"{step.min_ms:.2f}", f"{step.ratio:.2f}", f"{step.bandwidth_share:.0%}")
        rows.append((str(step.context), str(step.batch), str(step.block), *shown))
    show_table(
        f"{report.num_parameters / 1e6:.1f} M parameters, {report.weight_bytes / 1e6:.0f} MB of weights a pass, "
        f"copy bandwidth {report.copy_bytes_per_s / 1e9:.1f} GB/s",
        ("context", "batch", "block", "median ms", "min ms", "x single step", "bandwidth share"),
        rows,
    )
    settings = {"shape": shape, "device": device, "threads": threads, "repeats": repeats, "graphs": graphs}
    write_json(json, report, command="bench engine", **settings)
