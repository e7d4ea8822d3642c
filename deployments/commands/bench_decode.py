"""The command `hedgespec bench decode`: decoding speed of every drafter, learned selection and transformers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from deployments.commands.inputs import encoded, held_out_texts, read_args, total_prompts, without_prefix_cache
from deployments.commands.option_types import ApiKey, ConfigFile, Domains, JsonFile, MaxTokens, NumPrompts, Temperature
from deployments.commands.reports import console, progress_bar, show_by_domain, show_table, write_json
from hedgespec import zoo
from hedgespec.assembly.local_service import local_service
from hedgespec.bench.answers import LEARNED, ROUND_PARTS
from hedgespec.bench.concurrency import ConcurrencyReport, measure_concurrency
from hedgespec.bench.decode import DecodeReport, measure_decode, transformers_baselines
from hedgespec.bench.http_generator import HttpGenerator
from hedgespec.config import AppArgs
from hedgespec.tokenization import Tokenizer
from hedgespec.types import SamplingParams

Texts = dict[str, list[str]]


def decode(
    num_prompts: NumPrompts = 4,
    max_tokens: MaxTokens = 256,
    temperature: Temperature = 0.0,
    domain: Domains = None,
    config: ConfigFile = None,
    transformers: Annotated[bool, typer.Option(help="Also run transformers' generate and assisted generation.")] = True,
    url: Annotated[str | None, typer.Option(help="Measure the HedgeSpec server at this URL instead.")] = None,
    api_key: ApiKey = None,
    concurrency: Annotated[list[int] | None, typer.Option(min=1, help="Answers at once; may be repeated.")] = None,
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
    texts = held_out_texts(domain, num_prompts)
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
    write_json(json, report, command="bench decode", url=url, num_prompts=num_prompts, temperature=temperature)


async def _local(args: AppArgs, texts: Texts, sampling: SamplingParams, transformers: bool) -> DecodeReport:

    drafter_ids = [drafter.id for drafter in args.drafters]
    async with local_service(args) as local:
        max_draft_tokens = args.speculation.max_draft_tokens
        baselines = transformers_baselines(local.target_folder, max_draft_tokens) if transformers else {}
        work = encoded(local.tokenizer, texts)
        with progress_bar("decoding", (2 + len(drafter_ids) + len(baselines)) * total_prompts(work)) as advance:
            return await measure_decode(local.service, drafter_ids, work, sampling, baselines, advance)


async def _served(url: str, api_key: str | None, texts: Texts, sampling: SamplingParams) -> DecodeReport:

    async with HttpGenerator(url, api_key) as generator:
        drafter_ids = await generator.drafter_ids()
        work = encoded(Tokenizer.from_folder(zoo.target_folder()), texts)
        with progress_bar("decoding", (2 + len(drafter_ids)) * total_prompts(work)) as advance:
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
    show_table(
        "milliseconds of a round by part, learned selection; transport is contained in draft and verify",
        ("domain", *ROUND_PARTS),
        [
            (domain, *(f"{row[LEARNED].parts_ms.get(part, 0.0):.2f}" for part in ROUND_PARTS))
            for domain, row in report.results.items()
        ],
    )


def concurrent_decode(
    args: AppArgs,
    texts: Texts,
    sampling: SamplingParams,
    concurrencies: Sequence[int],
    repeats: int,
    json: Path | None,
) -> None:
    """Measure and print. texts: by domain. Raises BadParameter for more answers at once than the target has sessions."""
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
    write_json(json, report, command="bench decode --concurrency", **settings)


def alternating(work: Mapping[str, Sequence[NDArray[np.int32]]]) -> list[NDArray[np.int32]]:
    """Return the first prompt of every domain, then the second of every domain, and so on."""
    rows = list(work.values())
    return [row[index] for index in range(max(map(len, rows))) for row in rows if index < len(row)]


def show_concurrency(report: ConcurrencyReport) -> None:
    """Print a row per arm and concurrency."""
    rows = [
        (
            arm,
            str(level),
            f"{report.tokens_per_s(arm, level):.1f}",
            f"{report.speedup(arm, level):.2f}",
            f"{report.over_plain(arm, level):.2f}",
            f"{result.mean_accepted_tokens.value:.2f}",
        )
        for arm, by_level in report.results.items()
        for level, result in by_level.items()
    ]
    title = f"{report.num_answers} answers of {report.max_tokens} tokens, temperature {report.temperature:g}: medians"
    columns = ("arm", "at once", "tokens/s", "x one after the other", "x plain", "mean accepted tokens")
    show_table(title, columns, rows)
    if report.singles:
        console.print(f"best single drafter in a trial of each, one answer at a time: {report.best_single}")
