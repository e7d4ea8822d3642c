"""`hedgespec bench`: speed claims, side by side in one run, as tables and JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from deployments.commands.bench_concurrency import concurrent_decode
from deployments.commands.bench_engine import engine
from deployments.commands.bench_figures import figures
from deployments.commands.bench_heads import heads
from deployments.commands.bench_policies import policies
from deployments.commands.bench_serve import serve
from deployments.commands.bench_synthetic import synthetic
from deployments.commands.loading import read_args, without_prefix_cache
from deployments.commands.reports import console, progress_bar, write_json
from hedgespec import zoo
from hedgespec.bench.decode import LEARNED, DecodeReport, measure_decode
from hedgespec.tokenization import Tokenizer
from hedgespec.types import SamplingParams

app = typer.Typer(no_args_is_help=True, help="Benchmarks that compare side by side in one run.")
app.command()(engine)
app.command()(heads)
app.command()(synthetic)
app.command()(policies)
app.command()(serve)
app.command()(figures)

JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write the report to this file.")]
ConfigFile = Annotated[Path | None, typer.Option(help="Configuration (default: the embedded zoo).")]
Temperature = Annotated[float, typer.Option(min=0.0, max=2.0)]
NumPrompts = Annotated[int, typer.Option(min=1, help="Held-out prompts per domain.")]
MaxTokens = Annotated[int, typer.Option(min=2)]
Domains = Annotated[list[str] | None, typer.Option("--domain", help="Only this domain; may be repeated.")]


def held_out(tokenizer: Tokenizer, domains: Sequence[str] | None, count: int) -> dict[str, list[NDArray[np.int32]]]:
    """The zoo's held-out prompts as ids, the same ones in every benchmark."""
    chosen = domains or zoo.DOMAINS
    unknown = sorted(set(chosen) - set(zoo.DOMAINS))
    if unknown:
        raise typer.BadParameter(f"no such domain: {unknown}; there are {list(zoo.DOMAINS)}")
    return {d: [tokenizer.encode(text) for text in zoo.held_out_prompts(d)[:count]] for d in chosen}


@app.command()
def decode(
    prompts: NumPrompts = 4,
    max_tokens: MaxTokens = 256,
    temperature: Temperature = 0.0,
    domain: Domains = None,
    config: ConfigFile = None,
    transformers: Annotated[bool, typer.Option(help="Also run transformers' generate and assisted generation.")] = True,
    url: Annotated[str | None, typer.Option(help="Measure this running HedgeSpec server instead.")] = None,
    api_key: Annotated[str | None, typer.Option(envvar="HEDGESPEC_API_KEY")] = None,
    concurrency: Annotated[
        list[int] | None, typer.Option(min=1, help="So many answers at once, beside one after the other; repeatable.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Repeats of every case of --concurrency.")] = 3,
    json: JsonFile = None,
) -> None:
    """Plain decoding, each single drafter and learned selection, in one process beside transformers.

    With --url the same arms go through a server: HTTP, router, gRPC, model replicas, with the time of a round by part.
    With --concurrency: plain, the best single drafter and learned, with that many answers at once in one process.
    """
    if url is not None:
        if concurrency:
            raise typer.BadParameter("--concurrency is for models in this process; use `bench serve` for a server")
        served_decode(url, api_key, prompts, max_tokens, temperature, domain, json)
        return
    args = without_prefix_cache(read_args(config))
    if concurrency:
        sampling = SamplingParams(temperature=temperature, max_tokens=max_tokens, ignore_eos=True)
        work_of = partial(held_out, domains=domain, count=prompts)
        concurrent_decode(args, work_of, sampling, concurrency, repeats, json)
        return
    from hedgespec.assembly.local_service import local_service
    from hedgespec.bench.baselines import transformers_baselines

    async def run() -> DecodeReport:
        async with local_service(args) as local:
            work = held_out(local.tokenizer, domain, prompts)
            baselines = (
                transformers_baselines(local.target_folder, args.speculation.max_draft_tokens) if transformers else {}
            )
            num_arms = 2 + len(args.drafters) + len(baselines)
            with progress_bar("decoding", num_arms * sum(map(len, work.values()))) as advance:
                sampling = SamplingParams(temperature=temperature, max_tokens=max_tokens, ignore_eos=True)
                return await measure_decode(
                    local.service, [d.id for d in args.drafters], work, sampling, baselines, advance
                )

    report = asyncio.run(run())
    show_decode(report)
    write_json(json, decode_json(report), command="bench decode", prompts=prompts, temperature=temperature)


@app.command()
def acceptance(
    prompts: NumPrompts = 24,
    max_tokens: MaxTokens = 128,
    draft_tokens: Annotated[int, typer.Option(min=1, max=16)] = 5,
    card: Annotated[bool, typer.Option(help="Write the table into the zoo's model card.")] = False,
    json: JsonFile = None,
) -> None:
    """The table drafter x domain of emitted tokens per target pass, at temperatures 0 and 1."""
    from hedgespec.assembly.local_service import local_service
    from hedgespec.bench.acceptance import AcceptanceTable, measure_acceptance, to_markdown
    from hedgespec.zoo.card import write_acceptance_table

    args = read_args(None)
    speculation = args.speculation.model_copy(
        update={"max_draft_tokens": draft_tokens, "score_depth": "exact", "score_timeout_rounds": 1000}
    )
    args = args.model_copy(update={"speculation": speculation})

    async def run() -> AcceptanceTable:
        async with local_service(args) as local:
            work = held_out(local.tokenizer, None, prompts)
            temperatures = (0.0, 1.0)
            with progress_bar("scoring", len(temperatures) * sum(map(len, work.values()))) as advance:
                return await measure_acceptance(local.service, work, temperatures, draft_tokens, max_tokens, advance)

    table = asyncio.run(run())
    markdown = to_markdown(table)
    console.print(markdown)
    if card:
        write_acceptance_table(markdown)
    write_json(json, table, command="bench acceptance")


@app.command()
def overheads(
    prompts: NumPrompts = 1,
    max_tokens: MaxTokens = 256,
    temperature: Annotated[list[float] | None, typer.Option(min=0.0, max=2.0, help="Default: 0 and 1.")] = None,
    domain: Domains = None,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """What a round costs here: target pass, draft, scores, learner, transport; and the table drafter x domain."""
    from deployments.commands.bench_overheads import run_overheads

    args = without_prefix_cache(read_args(config))
    temperatures = temperature or [0.0, 1.0]
    samplings = [SamplingParams(temperature=t, max_tokens=max_tokens, ignore_eos=True) for t in temperatures]
    run_overheads(args, partial(held_out, domains=domain, count=prompts), samplings, json)


@app.command()
def rpc(
    rounds: Annotated[int, typer.Option(min=10, help="Rounds per measurement, shared by the sessions.")] = 200,
    repeats: Annotated[int, typer.Option(min=1)] = 5,
    grouped: Annotated[bool, typer.Option(help="Also with all drafters in one process.")] = True,
    json: JsonFile = None,
) -> None:
    """Time of a round through our gRPC path beside a bare echo with the same fan-out and payload."""
    import uvloop

    from deployments.commands.bench_rpc import rpc_json, show_rpc
    from hedgespec.bench.rpc import bench_rpc, default_shapes

    shapes = default_shapes(grouped)
    with progress_bar("cases", len(shapes)) as advance:
        report = uvloop.run(bench_rpc(shapes, rounds, repeats, lambda case: advance()))
    show_rpc(report)
    write_json(json, rpc_json(report), command="bench rpc", rounds=rounds, repeats=repeats)


def served_decode(
    url: str,
    api_key: str | None,
    prompts: int,
    max_tokens: int,
    temperature: float,
    domains: Sequence[str] | None,
    json: Path | None,
) -> None:
    from hedgespec.bench.http_generator import HttpGenerator

    async def run() -> DecodeReport:
        async with HttpGenerator(url, api_key) as generator:
            drafter_ids = await generator.drafter_ids()
            work = held_out(Tokenizer.from_folder(zoo.target_folder()), domains, prompts)
            with progress_bar("decoding", (2 + len(drafter_ids)) * sum(map(len, work.values()))) as advance:
                sampling = SamplingParams(temperature=temperature, max_tokens=max_tokens, ignore_eos=True)
                return await measure_decode(generator, drafter_ids, work, sampling, {}, advance)

    report = asyncio.run(run())
    show_decode(report)
    show_rounds(report)
    write_json(json, decode_json(report), command="bench decode", url=url, prompts=prompts, temperature=temperature)


def show_decode(report: DecodeReport) -> None:
    for title, pick in (("mean accepted tokens", "mean_accepted_tokens"), ("tokens/s", "tokens_per_s")):
        table = Table(title=f"{title}, temperature {report.temperature:g}, answers of {report.max_tokens} tokens")
        table.add_column("")
        for domain in report.results:
            table.add_column(domain, justify="right")
        for arm in next(iter(report.results.values())):
            table.add_row(arm, *(f"{getattr(row[arm], pick).value:.2f}" for row in report.results.values()))
        console.print(table)
    for domain, share in report.learned_share.items():
        console.print(f"{domain:>12}: learned reaches {share:.1%} of the best single drafter's mean accepted tokens")
    for name, value in report.same_text.items():
        console.print(f"answers {name.replace('_', ' ')}: {value}")


def show_rounds(report: DecodeReport) -> None:
    table = Table(title="milliseconds of a round, learned selection (transport is part of draft and verify)")
    table.add_column("domain")
    parts = ("draft", "verify", "transport", "learn", "overhead")
    for part in parts:
        table.add_column(part, justify="right")
    for domain, row in report.results.items():
        table.add_row(domain, *(f"{row[LEARNED].round_ms.get(part, 0.0):.2f}" for part in parts))
    console.print(table)


def decode_json(report: DecodeReport) -> Mapping[str, object]:
    """The report with its derived ratios, so that a reader of the JSON does not have to compute them."""
    return {
        "temperature": report.temperature,
        "max_tokens": report.max_tokens,
        "learned_share_of_best_single": report.learned_share,
        "same_text": report.same_text,
        "domains": {
            domain: {
                arm: {
                    "mean_accepted_tokens": result.mean_accepted_tokens,
                    "tokens_per_s": result.tokens_per_s,
                    "round_ms": result.round_ms,
                    "tokens": result.tokens,
                    "passes": result.passes,
                    "seconds": result.seconds,
                }
                for arm, result in row.items()
            }
            for domain, row in report.results.items()
        },
    }
