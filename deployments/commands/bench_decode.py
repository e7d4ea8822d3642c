"""The command `hedgespec bench decode`: decoding speed of every drafter, learned selection and transformers."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.table import Table

from deployments.commands.bench_concurrency import concurrent_decode
from deployments.commands.held_out import encoded, held_out_texts, num_prompts
from deployments.commands.loading import read_args, without_prefix_cache
from deployments.commands.option_types import ApiKey, ConfigFile, Domains, JsonFile, MaxTokens, NumPrompts, Temperature
from deployments.commands.reports import console, progress_bar, show_by_domain, write_json
from hedgespec import zoo
from hedgespec.bench.answers import LEARNED, ROUND_PARTS
from hedgespec.bench.decode import DecodeReport, measure_decode
from hedgespec.config import AppArgs
from hedgespec.tokenization import Tokenizer
from hedgespec.types import SamplingParams

Texts = dict[str, list[str]]


def decode(
    prompts: NumPrompts = 4,
    max_tokens: MaxTokens = 256,
    temperature: Temperature = 0.0,
    domain: Domains = None,
    config: ConfigFile = None,
    transformers: Annotated[bool, typer.Option(help="Also run transformers' generate and assisted generation.")] = True,
    url: Annotated[str | None, typer.Option(help="Measure the HedgeSpec server at this URL instead.")] = None,
    api_key: ApiKey = None,
    concurrency: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Decode this many answers at once, beside one after the other; may be repeated."),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Repeats of every measurement with --concurrency.")] = 3,
    json: JsonFile = None,
) -> None:
    """Speed and accepted tokens of plain decoding, each single drafter, learned selection and transformers.

    By default all of them run in one process. With --url they go through a running server (HTTP, router, gRPC, model
    replicas), and the time of a round is shown by part. With --concurrency, plain decoding, the best single drafter and
    learned selection decode that many answers at once in one process.
    """
    if url is not None and (concurrency or config):
        raise typer.BadParameter("--concurrency and --config are for models in this process; leave them out with --url")
    texts = held_out_texts(domain, prompts)
    sampling = SamplingParams(temperature=temperature, max_tokens=max_tokens, ignore_eos=True)
    if concurrency:
        concurrent_decode(without_prefix_cache(read_args(config)), texts, sampling, concurrency, repeats, json)
        return
    if url is not None:
        report = asyncio.run(_served(url, api_key, texts, sampling))
    else:
        report = asyncio.run(_local(without_prefix_cache(read_args(config)), texts, sampling, transformers))
    show_decode(report)
    if url is not None:
        show_rounds(report)
    write_json(json, report.as_json(), command="bench decode", url=url, prompts=prompts, temperature=temperature)


async def _local(args: AppArgs, texts: Texts, sampling: SamplingParams, transformers: bool) -> DecodeReport:
    from hedgespec.assembly.local_service import local_service
    from hedgespec.bench.transformers_baselines import transformers_baselines

    drafter_ids = [drafter.id for drafter in args.drafters]
    async with local_service(args) as local:
        max_draft_tokens = args.speculation.max_draft_tokens
        baselines = transformers_baselines(local.target_folder, max_draft_tokens) if transformers else {}
        work = encoded(local.tokenizer, texts)
        with progress_bar("decoding", (2 + len(drafter_ids) + len(baselines)) * num_prompts(work)) as advance:
            return await measure_decode(local.service, drafter_ids, work, sampling, baselines, advance)


async def _served(url: str, api_key: str | None, texts: Texts, sampling: SamplingParams) -> DecodeReport:
    from hedgespec.bench.http_generator import HttpGenerator

    async with HttpGenerator(url, api_key) as generator:
        drafter_ids = await generator.drafter_ids()
        work = encoded(Tokenizer.from_folder(zoo.target_folder()), texts)
        with progress_bar("decoding", (2 + len(drafter_ids)) * num_prompts(work)) as advance:
            return await measure_decode(generator, drafter_ids, work, sampling, {}, advance)


def show_decode(report: DecodeReport) -> None:
    """Print what every arm reached in every domain."""
    show_by_domain(report.results, f"temperature {report.temperature:g}, answers of {report.max_tokens} tokens")
    for domain, share in report.learned_share.items():
        console.print(f"{domain:>12}: learned reaches {share:.1%} of the best single drafter's mean accepted tokens")
    for name, value in report.same_text.items():
        console.print(f"answers {name.replace('_', ' ')}: {value}")


def show_rounds(report: DecodeReport) -> None:
    """Print the parts of a round of learned selection."""
    table = Table(
        title="milliseconds of a round by part, learned selection; transport is contained in draft and verify"
    )
    table.add_column("domain")
    for part in ROUND_PARTS:
        table.add_column(part, justify="right")
    for domain, row in report.results.items():
        table.add_row(domain, *(f"{row[LEARNED].parts_ms.get(part, 0.0):.2f}" for part in ROUND_PARTS))
    console.print(table)
