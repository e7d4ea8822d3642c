"""Put load on any OpenAI-compatible server: requests arrive on their own clock, whether or not earlier ones are done.

Such an open loop shows queueing, which a fixed number of clients hides: they wait while the server is behind.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from hedgespec.errors import HedgeSpecError

MAX_FAILURE_TEXT = 200


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """The requests of one run.

    prompts:         used in turn
    requests_per_s:  mean of the Poisson arrivals; inf sends everything at once
    max_tokens:      of every answer
    max_concurrency: requests in flight at most, the others wait in this process and their wait counts; None is no limit
    ignore_eos:      ask for exactly max_tokens, an extension that not every server has
    """

    model: str
    prompts: Sequence[str]
    num_requests: int
    requests_per_s: float
    max_tokens: int
    temperature: float = 0.0
    max_concurrency: int | None = None
    seed: int = 0
    ignore_eos: bool = True


@dataclass(slots=True)
class RequestRecord:
    """The outcome of one request; times are in seconds since it was due.

    ttft_s:  time to first token; e2e_s: to the last
    itl_s:   gaps between chunks that carry text; a chunk may hold several tokens, so compare servers by TPOT
    failure: empty when the request succeeded
    """

    num_tokens: int = 0
    ttft_s: float = float("nan")
    e2e_s: float = float("nan")
    itl_s: list[float] = field(default_factory=list)
    failure: str = ""

    @property
    def tpot_s(self) -> float:
        """Time per output token: (last - first) / (tokens - 1)."""
        return (self.e2e_s - self.ttft_s) / (self.num_tokens - 1) if self.num_tokens > 1 else float("nan")


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The outcome of a run.

    spec_decode: increases of the server's `vllm:spec_decode_*` counters over the run, where it has them
    """

    records: list[RequestRecord]
    duration_s: float
    spec_decode: dict[str, float]


async def run_load(url: str, api_key: str | None, plan: LoadPlan, advance: Callable[[], None]) -> LoadResult:
    """Send the plan's requests to URL/v1/completions and stream their answers. advance: called after every answer.

    A request that fails is recorded, not raised. Raises HedgeSpecError when the server cannot be reached at all.
    """
    async with open_client(url, api_key) as client:
        before = await spec_decode_counters(client)
        gate = asyncio.Semaphore(plan.max_concurrency or plan.num_requests)
        started = time.perf_counter()

        async def one(index: int, due_s: float) -> RequestRecord:
            await asyncio.sleep(max(0.0, started + due_s - time.perf_counter()))
            async with gate:
                record = await _request(client, plan, index, started + due_s)
            advance()
            return record

        records = await asyncio.gather(*(one(i, due) for i, due in enumerate(arrival_times(plan))))
        duration_s = time.perf_counter() - started
        after = await spec_decode_counters(client)
    return LoadResult(list(records), duration_s, {name: after[name] - before.get(name, 0.0) for name in after})


def open_client(url: str, api_key: str | None) -> httpx.AsyncClient:
    """Return an HTTP client of a server, with any number of connections."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=600.0, limits=limits)


def arrival_times(plan: LoadPlan) -> list[float]:
    """Return the arrivals of a Poisson process with the plan's seed, [num_requests] seconds; the first is 0."""
    if np.isinf(plan.requests_per_s):
        return [0.0] * plan.num_requests
    gaps = np.random.default_rng(plan.seed).exponential(1.0 / plan.requests_per_s, plan.num_requests)
    times: list[float] = np.cumsum(gaps - gaps[0] * (np.arange(plan.num_requests) == 0)).tolist()
    return times


async def first_model(url: str, api_key: str | None) -> str:
    """Return the first model under /v1/models. Raises HedgeSpecError when no server answers."""
    try:
        async with open_client(url, api_key) as client:
            answer = await client.get("/v1/models", timeout=30.0)
            answer.raise_for_status()
            return str(answer.json()["data"][0]["id"])
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        raise HedgeSpecError(
            f"{url} answered {status} to /v1/models; 401 means that it wants another --api-key."
        ) from error
    except (httpx.HTTPError, ValueError, KeyError, IndexError) as error:
        raise HedgeSpecError(
            f"No OpenAI-compatible server at {url}: {error}. Start one, or give another --url."
        ) from error


async def spec_decode_counters(client: httpx.AsyncClient) -> dict[str, float]:
    """Return the sums over labels of vLLM's speculative decoding counters; empty when /metrics has none."""
    try:
        answer = await client.get("/metrics")
    except httpx.HTTPError:
        return {}
    sums: dict[str, float] = {}
    for line in answer.text.splitlines() if answer.status_code == 200 else ():
        name = line.partition("{")[0].partition(" ")[0]
        if name.startswith("vllm:spec_decode_") and name.endswith("_total") and "per_pos" not in name:
            short = name.removeprefix("vllm:spec_decode_").removesuffix("_total")
            sums[short] = sums.get(short, 0.0) + float(line.rpartition(" ")[2])
    return sums


async def _request(client: httpx.AsyncClient, plan: LoadPlan, index: int, due: float) -> RequestRecord:
    record = RequestRecord()
    body = {
        "model": plan.model,
        "prompt": plan.prompts[index % len(plan.prompts)],
        "max_tokens": plan.max_tokens,
        "temperature": plan.temperature,
        "stream": True,
        "stream_options": {"include_usage": True},
        **({"ignore_eos": True} if plan.ignore_eos else {}),
    }
    last, num_chunks = due, 0
    try:
        async with client.stream("POST", "/v1/completions", json=body) as answer:
            if answer.status_code != 200:
                text = (await answer.aread()).decode(errors="replace")
                record.failure = f"{answer.status_code}: {text[:MAX_FAILURE_TEXT]}"
                return record
            async with aclosing(sse_events(answer)) as events:
                async for event in events:
                    now = time.perf_counter()
                    if "error" in event:
                        record.failure = str(event["error"].get("message"))[:MAX_FAILURE_TEXT]
                    if (event.get("usage") or {}).get("completion_tokens"):
                        record.num_tokens = int(event["usage"]["completion_tokens"])
                    if any(choice.get("text") for choice in event.get("choices", ())):
                        if num_chunks == 0:
                            record.ttft_s = now - due
                        else:
                            record.itl_s.append(now - last)
                        last, num_chunks = now, num_chunks + 1
    except (httpx.HTTPError, ValueError) as error:
        record.failure = f"{type(error).__name__}: {error}"[:MAX_FAILURE_TEXT]
    record.e2e_s = last - due
    record.num_tokens = record.num_tokens or num_chunks
    return record


async def sse_events(answer: httpx.Response) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the JSON of every server-sent event of an answer."""
    async for line in answer.aiter_lines():
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line.removeprefix("data: "))
