"""The load generator against a real server on a socket counts every answer; failures are results, not crashes."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import pytest
import uvicorn

from hedgespec.api.app import create_app
from hedgespec.bench.load import LoadPlan, LoadResult, RequestRecord, arrival_times, first_model, run_load
from hedgespec.bench.load_report import load_report
from hedgespec.config import LimitsConfig
from hedgespec.errors import HedgeSpecError
from hedgespec.observability.metrics import Metrics
from hedgespec.tenancy.tenants import Tenants
from tests.scripted_generator import ScriptedGenerator, byte_tokenizer

PLAN = LoadPlan("m", ("one", "two"), num_requests=12, requests_per_s=math.inf, max_tokens=4)


@asynccontextmanager
async def serving(generator: ScriptedGenerator, **limits: int) -> AsyncIterator[str]:
    app = create_app(
        generator,
        byte_tokenizer(),
        Tenants(None),
        Metrics("m", ("sql",)),
        LimitsConfig(**limits),
        "m",
        version="1",
    )
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running


async def test_every_answer_is_streamed_and_counted() -> None:
    """12 answers of 4 pieces, 20 ms apart: 48 tokens, three gaps each, and nothing left open on the server."""
    generator, seen = ScriptedGenerator(pieces=("a", "b", "c", "d"), delay_s=0.02), []
    async with serving(generator) as url:
        assert await first_model(url, None) == "m"
        result = await run_load(url, None, PLAN, lambda: seen.append(1))
    report = load_report(result)
    assert (report.num_completed, report.num_failed, len(seen)) == (12, 0, 12)
    assert [r.num_tokens for r in result.records] == [4] * 12
    assert all(len(r.itl_s) == 3 and r.ttft_s >= 0.02 and r.e2e_s > r.ttft_s for r in result.records)
    assert {len(r.prompt_ids) for r in generator.requests} == {3}
    assert (generator.num_open, generator.num_closed) == (0, 12)


async def test_a_server_that_refuses_is_a_result() -> None:
    """Answers with an error status are counted by message; the good ones still count."""
    async with serving(ScriptedGenerator(pieces=("a", "b"), delay_s=0.2), max_concurrent_per_tenant=2) as url:
        report = load_report(await run_load(url, None, PLAN, lambda: None))
    assert report.num_completed == 2
    assert report.num_failed == 10
    assert all(message.startswith("429") for message in report.failures)


async def test_max_concurrency_waits_on_our_side() -> None:
    """Nothing is refused with a limit of two at the server and two here."""
    plan = replace(PLAN, max_concurrency=2)
    async with serving(ScriptedGenerator(pieces=("a", "b"), delay_s=0.01), max_concurrent_per_tenant=2) as url:
        report = load_report(await run_load(url, None, plan, lambda: None))
    assert (report.num_completed, report.num_failed) == (12, 0)


async def test_an_absent_server_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(HedgeSpecError, match="No OpenAI-compatible server"):
        await first_model(f"http://127.0.0.1:{port}", None)


def test_arrivals_are_a_seeded_poisson_process() -> None:
    """2,000 gaps of mean 0.1 s: their mean is within 5 standard errors (false alarm below 1e-6); the same seed repeats."""
    plan = replace(PLAN, num_requests=2001, requests_per_s=10.0, seed=3)
    times = arrival_times(plan)
    assert times == arrival_times(plan)
    assert times[0] == 0.0
    gaps = [b - a for a, b in pairwise(times)]
    assert abs(sum(gaps) / 2000 - 0.1) < 5 * 0.1 / math.sqrt(2000)


def test_goodput_counts_answers_within_both_limits() -> None:
    """TTFT 10 ms, TPOT 5 ms for the good one; one misses each limit, and a failed one never counts."""
    good = RequestRecord(3, 0.010, 0.020, [0.005, 0.005])
    late_start = RequestRecord(3, 0.200, 0.210, [0.005, 0.005])
    slow = RequestRecord(3, 0.010, 0.410, [0.2, 0.2])
    failed = RequestRecord(failure="500: x")
    result = LoadResult(
        [good, late_start, slow, failed], 2.0, {"num_draft_tokens": 10, "num_drafts": 2, "num_accepted_tokens": 6}
    )
    report = load_report(result, ttft_limit_ms=100.0, tpot_limit_ms=50.0)
    assert report.goodput_per_s == 0.5
    assert (report.num_completed, report.num_failed) == (3, 1)
    assert report.acceptance_rate == 0.6
    assert report.mean_accepted_tokens == 4.0
