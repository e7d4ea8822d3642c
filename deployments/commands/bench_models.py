"""The commands `hedgespec bench engine`, `heads` and `synthetic`: the speed of models, with random weights or their own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from deployments.commands.bench_decode import show_concurrency
from deployments.commands.option_types import Graphs, JsonFile, MaxTokens, OnDevice, Shape, Threads
from deployments.commands.reports import console, progress_bar, show_table, write_json
from hedgespec.assembly.model_args import model_args
from hedgespec.assembly.model_sources import ZOO, located, resolved_target
from hedgespec.bench.concurrency import ConcurrencyReport, measure_concurrency
from hedgespec.config import Quantization
from hedgespec.types import SamplingParams


def engine(
    shape: Annotated[
        str | None, typer.Option(help="Use random weights of this shape: tiny, llama-3.2-1b, llama-3.1-8b or qwen3-8b.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="`smollm2`, a folder or a GGUF file (default: the zoo's target).")
    ] = None,
    quantization: Annotated[Quantization, typer.Option(help="How weights on the CPU are rounded.")] = "none",
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Sessions per step (default: 1 4 8 16 32)")] = None,
    block: Annotated[list[int] | None, typer.Option(min=1, help="New tokens per session (default: 1 4 6 8 16)")] = None,
    context: Annotated[
        list[int] | None, typer.Option(min=1, help="Cached tokens per session (default: 128 1024)")
    ] = None,
    device: OnDevice = "cpu",
    threads: Threads = 1,
    repeats: Annotated[int, typer.Option(min=2, help="Timed repeats of every step.")] = 9,
    graphs: Graphs = False,
    json: JsonFile = None,
) -> None:
    """Time of a target's step by batch, block and context, beside a single step and the memory bandwidth.

    These three options may be repeated. The bandwidth is that of a large copy, which reads and writes every byte once;
    both count.
    """
    import torch

    from hedgespec.bench.engine import measure_engine, model_size
    from hedgespec.bench.shapes import random_causal_lm
    from hedgespec.models.causal_lm.folder import load_causal_lm
    from hedgespec.models.graphs.static_passes import use_static_passes
    from hedgespec.models.lean.lean_network import accelerate

    if shape is not None and target is not None:
        raise typer.BadParameter("give --shape or --target, not both")
    if quantization != "none" and device != "cpu":
        raise typer.BadParameter(f"quantization {quantization} is for device cpu")
    torch.set_num_threads(threads)
    folder = Path(resolved_target(located(model_args(target or ZOO, device)).target).model)
    model = random_causal_lm(shape, device) if shape is not None else load_causal_lm(folder, device, "target")
    batches, blocks, contexts = batch or [1, 4, 8, 16, 32], block or [1, 4, 6, 8, 16], context or [128, 1024]
    if max(contexts) + max(blocks) > model.max_positions:
        raise typer.BadParameter(f"this model's context has {model.max_positions} tokens; lower --context")
    size = model_size(model.model, quantization)
    accelerate(model, quantization)
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
        caption=report.in_words(),
    )
    settings = {"shape": shape, "device": device, "threads": threads, "repeats": repeats, "graphs": graphs}
    write_json(json, report, command="bench engine", quantization=quantization, **settings)


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


def synthetic(
    shape: Shape = "tiny",
    acceptance: Annotated[
        list[float] | None, typer.Option(min=0.0, max=1.0, help="Of a head; one per head. (default: 0.8 0.6 0.4 0.2)")
    ] = None,
    concurrency: Annotated[
        list[int] | None, typer.Option(min=1, max=64, help="Answers at once; may be repeated; 1 is always measured.")
    ] = None,
    prompt: Annotated[int, typer.Option(min=1, help="Tokens of a prompt.")] = 128,
    max_tokens: MaxTokens = 256,
    repeats: Annotated[int, typer.Option(min=1, help="Repeats of every measurement.")] = 3,
    device: OnDevice = "cpu",
    threads: Threads = 1,
    graphs: Graphs = False,
    json: JsonFile = None,
) -> None:
    """Tokens/s of plain decoding, the best single head and learned selection, on models with random weights.

    Every pass is computed as usual; only which draft tokens are accepted is drawn at random, the same in verification and
    in scores. Greedy, in one process.
    """
    import torch

    from hedgespec.bench.shapes import head_config
    from hedgespec.bench.synthetic import expected_tokens, random_prompts, synthetic_service

    torch.set_num_threads(threads)
    rates, levels = acceptance or [0.8, 0.6, 0.4, 0.2], sorted({1, *(concurrency or [])})
    head = head_config(shape)
    if prompt + max_tokens > head.max_positions:
        raise typer.BadParameter(
            f"this shape's context has {head.max_positions} tokens; lower --prompt or --max-tokens"
        )
    sampling = SamplingParams(temperature=0.0, max_tokens=max_tokens, ignore_eos=True)
    prompts = random_prompts(levels[-1], prompt, head.vocab_size)

    async def run() -> ConcurrencyReport:
        service = synthetic_service(shape, rates, device, levels[-1], prompt + max_tokens, use_graphs=graphs)
        async with service as generator:
            with progress_bar("decoding", len(rates) + repeats * 3 * len(levels)) as advance:
                ids = [f"head{index}" for index in range(len(rates))]
                return await measure_concurrency(generator, ids, prompts, sampling, levels, repeats, advance)

    report = asyncio.run(run())
    show_concurrency(report)
    expected = ", ".join(f"{rate:g}: {expected_tokens(rate):.2f}" for rate in rates)
    console.print(f"tokens per round that each acceptance should give: {expected}")
    settings = {"shape": shape, "acceptance": rates, "concurrency": levels, "prompt": prompt, "device": device}
    write_json(json, report, command="bench synthetic", **settings, threads=threads, graphs=graphs)
