"""The command `hedgespec bench serve`: put load on any OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Annotated

import typer

from deployments.commands.option_types import ApiKey, JsonFile, Temperature
from deployments.commands.reports import console, progress_bar, show_table, write_json
from hedgespec import zoo
from hedgespec.bench.load import LoadPlan, LoadResult, first_model, run_load
from hedgespec.bench.load_report import LoadReport, load_report
from hedgespec.errors import ConfigError


def serve(
    url: Annotated[str, typer.Option(help="OpenAI-compatible server, without /v1.")] = "http://127.0.0.1:8000",
    api_key: ApiKey = None,
    model: Annotated[str | None, typer.Option(help="Model name (default: the server's first one).")] = None,
    requests: Annotated[int, typer.Option(min=1, help="Number of requests.")] = 64,
    rate: Annotated[
        float, typer.Option(min=0.0, help="Mean arrivals per second (Poisson); 0 sends all at once.")
    ] = 2.0,
    max_concurrency: Annotated[int | None, typer.Option(min=1, help="Requests in flight at most.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of each answer.")] = 128,
    temperature: Temperature = 0.0,
    prompts_file: Annotated[
        Path | None, typer.Option(help="File with one prompt per line (default: the zoo's).")
    ] = None,
    ttft_limit_ms: Annotated[
        float | None, typer.Option(min=0.0, help="Goodput counts answers with TTFT within this.")
    ] = None,
    tpot_limit_ms: Annotated[float | None, typer.Option(min=0.0, help="... and whose TPOT is within this.")] = None,
    ignore_eos: Annotated[bool, typer.Option(help="Ask for exactly --max-tokens (an extension of the API).")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the arrival times.")] = 0,
    json: JsonFile = None,
) -> None:
    """Latency, throughput, goodput and acceptance of a running server under load.

    Requests arrive on their own clock, whether or not earlier ones are done. TTFT: time to first token; TPOT: time per
    output token; ITL: gaps between chunks; E2E: the whole answer.
    """
    texts = read_prompts(prompts_file)

    async def run() -> LoadResult:
        plan = LoadPlan(
            model=model or await first_model(url, api_key),
            prompts=texts,
            num_requests=requests,
            requests_per_s=rate or math.inf,
            max_tokens=max_tokens,
            temperature=temperature,
            max_concurrency=max_concurrency,
            seed=seed,
            ignore_eos=ignore_eos,
        )
        with progress_bar("requests", requests) as advance:
            return await run_load(url, api_key, plan, advance)

    report = load_report(asyncio.run(run()), ttft_limit_ms, tpot_limit_ms)
    show(report)
    settings = {"url": url, "requests": requests, "rate": rate, "max_concurrency": max_concurrency}
    write_json(json, report, command="bench serve", **settings, max_tokens=max_tokens, temperature=temperature)


def read_prompts(path: Path | None) -> list[str]:
    """Read prompts from a file, or take the zoo's. Raises ConfigError when the file has none."""
    if path is None:
        by_domain = [zoo.held_out_prompts(domain) for domain in zoo.DOMAINS]
        return [text for turn in zip(*by_domain, strict=True) for text in turn]
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"prompts-file: cannot read {path}: {error}") from error
    if not lines:
        raise ConfigError(f"prompts-file: {path} has no prompts; it needs one per line")
    return lines


def show(report: LoadReport) -> None:
    """Print latencies, throughput, acceptance and the most frequent failures."""
    spreads = {"TTFT": report.ttft, "TPOT": report.tpot, "ITL": report.itl, "E2E": report.e2e}
    show_table(
        f"{report.num_completed} answers in {report.duration_s:.1f} s, {report.num_failed} failed",
        ("", "mean ms", "median ms", "p99 ms"),
        [(name, f"{s.mean_ms:.1f}", f"{s.median_ms:.1f}", f"{s.p99_ms:.1f}") for name, s in spreads.items()],
    )
    console.print(f"{report.requests_per_s:.2f} answers/s, {report.tokens_per_s:.1f} tokens/s")
    if report.goodput_per_s is not None:
        console.print(f"goodput: {report.goodput_per_s:.2f} answers/s within the limits")
    if report.mean_accepted_tokens is not None and report.acceptance_rate is not None:
        console.print(
            f"acceptance: {report.acceptance_rate:.1%} of drafted tokens, {report.mean_accepted_tokens:.2f} tokens per pass"
        )
    for failure, count in report.failures.items():
        console.print(f"{count} x {failure}", markup=False)
