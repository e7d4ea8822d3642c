"""`hedgespec bench synthetic`: decoding with random weights of a published shape and acceptance as one likes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer

from deployments.commands.bench_concurrency import show
from deployments.commands.reports import console, progress_bar, write_json
from hedgespec.bench.concurrency import ConcurrencyReport, concurrency_json, measure_concurrency
from hedgespec.types import SamplingParams


def synthetic(
    shape: Annotated[str, typer.Option(help="Of the target: tiny, llama-3.2-1b, llama-3.1-8b, qwen3-8b.")] = "tiny",
    acceptance: Annotated[
        list[float] | None,
        typer.Option(min=0.0, max=1.0, help="Per head, how often a draft token is right. [default: 0.8 0.6 0.4 0.2]"),
    ] = None,
    concurrency: Annotated[
        list[int] | None, typer.Option(min=1, max=64, help="So many answers at once; 1 is always there.")
    ] = None,
    prompt: Annotated[int, typer.Option(min=1, help="Tokens of a prompt.")] = 128,
    max_tokens: Annotated[int, typer.Option(min=1)] = 256,
    repeats: Annotated[int, typer.Option(min=1)] = 3,
    device: Annotated[Literal["cpu", "cuda"], typer.Option()] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="torch threads on the CPU.")] = 1,
    graphs: Annotated[
        bool, typer.Option(help="On CUDA: in graphs, as a replica does. On the CPU: static passes.")
    ] = False,
    json: Annotated[Path | None, typer.Option("--json", help="Also write the report to this file.")] = None,
) -> None:
    """Tokens/s of plain decoding, the best single head and learned selection, without any weights.

    Every pass is computed; only which draft tokens count as right is drawn, alike in verification and in scores. Temperature
    0, one process.
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
                ids = [f"head{place}" for place in range(len(rates))]
                return await measure_concurrency(
                    generator, generator.drain, ids, prompts, sampling, levels, repeats, advance
                )

    report = asyncio.run(run())
    show(report)
    expected = ", ".join(f"{rate:g}: {expected_tokens(rate):.2f}" for rate in rates)
    console.print(f"tokens a round that the acceptance stands for: {expected}")
    settings = {"shape": shape, "acceptance": rates, "concurrency": levels, "prompt": prompt, "device": device}
    write_json(json, concurrency_json(report), command="bench synthetic", **settings, threads=threads, graphs=graphs)
