"""The command `hedgespec bench synthetic`: decoding speed with random weights and a given acceptance."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from deployments.commands.bench_decode import show_concurrency
from deployments.commands.option_types import Graphs, JsonFile, MaxTokens, OnDevice, Shape, Threads
from deployments.commands.reports import console, progress_bar, write_json
from hedgespec.bench.concurrency import ConcurrencyReport, measure_concurrency
from hedgespec.types import SamplingParams


def synthetic(
    shape: Shape = "tiny",
    acceptance: Annotated[
        list[float] | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Acceptance of a head's draft tokens; one option per head. (default: 0.8 0.6 0.4 0.2)",
        ),
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
    write_json(json, report.as_json(), command="bench synthetic", **settings, threads=threads, graphs=graphs)
