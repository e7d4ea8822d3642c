"""The command `hedgespec bench decode`: decoding speed of every drafter, learned selection and transformers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import httpx
import numpy as np
import typer
from numpy.typing import NDArray

from deployments.commands.inputs import PromptIds, encoded, held_out_texts, total_prompts, without_prefix_cache
from deployments.commands.model_choice import chosen_args
from deployments.commands.option_types import (
    ApiKey,
    ConfigInsteadOfModel,
    Domains,
    JsonFile,
    MaxTokens,
    ModelName,
    NumPrompts,
    Temperature,
)
from deployments.commands.reports import console, progress_bar, show_by_domain, show_table, write_json
from hedgespec.assembly.local_service import local_service
from hedgespec.assembly.model_sources import ZOO
from hedgespec.bench.answers import LEARNED, ROUND_PARTS
from hedgespec.bench.concurrency import ConcurrencyReport, measure_concurrency
from hedgespec.bench.decode import DecodeReport, measure_decode, transformers_baselines, with_mean
from hedgespec.bench.http_generator import HttpGenerator
from hedgespec.bench.load import open_client
from hedgespec.config import AppArgs
from hedgespec.errors import HedgeSpecError
from hedgespec.types import SamplingParams

Texts = dict[str, list[str]]


def decode(
    num_prompts: NumPrompts = 4,
    max_tokens: MaxTokens = 256,
    temperature: Temperature = 0.0,
    domain: Domains = None,
    model: ModelName = None,
    config: ConfigInsteadOfModel = None,
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
    learned selection decode that many answers at once in one process. The model is the zoo unless --model or --config names
    another.
    """
    if url is not None and (concurrency or config or model):
        raise typer.BadParameter("--concurrency, --model and --config are for models in this process, not for --url")
    texts = held_out_texts(domain, num_prompts)
    sampling = SamplingParams(temperature=temperature, max_tokens=max_tokens, ignore_eos=True)
    if concurrency:
        concurrent_decode(
            without_prefix_cache(chosen_args(config, model, default=ZOO)), texts, sampling, concurrency, repeats, json
        )
        return
    if url is not None:
        report = asyncio.run(_served(url, api_key, texts, sampling))
    else:
        report = asyncio.run(
            _local(without_prefix_cache(chosen_args(config, model, default=ZOO)), texts, sampling, transformers)
        )
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
        work = await encoded_by_server(url, api_key, texts)
        with progress_bar("decoding", (2 + len(drafter_ids)) * total_prompts(work)) as advance:
            return await measure_decode(generator, drafter_ids, work, sampling, {}, advance)


async def encoded_by_server(url: str, api_key: str | None, texts: Texts) -> PromptIds:
    """Encode the texts of each domain with the tokenizer of the server's model. Raises HedgeSpecError."""

    async def ids(text: str) -> NDArray[np.int32]:
        try:
            reply = (await client.post("/tokenize", json={"prompt": text})).raise_for_status()
            return np.array(reply.json()["tokens"], np.int32)
        except (httpx.HTTPError, KeyError, ValueError) as error:
            raise HedgeSpecError(f"{url} does not tokenize ({error}); is it HedgeSpec?") from error

    async with open_client(url, api_key) as client:
        return {domain: [await ids(text) for text in row] for domain, row in texts.items()}


def show_decode(report: DecodeReport) -> None:
    """Print what every arm reached in every domain."""
    show_by_domain(report.results, f"temperature {report.temperature:g}, answers of {report.max_tokens} tokens")
    for domain, share in report.learned_share.items():
        console.print(f"{domain:>12}: learned reaches {share:.1%} of the best single drafter's mean accepted tokens")
    by_time = with_mean(report.learned_over_fastest), with_mean(report.learned_over_plain)
    show_table(
        "tokens/s of learned selection",
        ("over", *by_time[1]),
        [
            (name, *(f"{value:.2f}" for value in row.values()))
            for name, row in zip(("fastest single drafter", "plain"), by_time, strict=True)
            if row
        ],
    )
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
