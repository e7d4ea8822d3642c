"""Many short requests of every kind run against one service, which must hold nothing when they are over.

`python -m tests.soak --requests 10000 [--models tiny] [--grpc]` runs it at length and prints the memory curve.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hedgespec.errors import HedgeSpecError, RequestError
from hedgespec.types import GenerationRequest, SamplingParams
from tests.soak_service import SoakService, tabular_service, tiny_service

NUM_AT_ONCE = 8
KINDS = (
    "greedy",
    "seeded",
    "sampled",
    "pinned",
    "penalties",
    "stop string",
    "closed",
    "cancelled",
    "refused",
    "too long",
)
WARM_UP = 60
"""Requests before anything is compared: streams are connected, caches of the libraries have their entries."""

SETTLE_S = 20.0
"""Wide: how long late replies on the wire may take on a loaded machine."""


@dataclass(slots=True)
class SoakReport:
    """outcomes: kind of request and how it ended -> count. rss_mb: after every `every` requests, the warm-up included."""

    outcomes: Counter[str] = field(default_factory=Counter)
    rss_mb: list[float] = field(default_factory=list)


async def soak(
    service: SoakService,
    num_requests: int,
    every: int = 100,
    seed: int = 0,
    log: Callable[[str], None] = lambda _: None,
) -> SoakReport:
    """Run requests 0, 1, ... with NUM_AT_ONCE in progress; kinds take turns, everything else is drawn from the seed."""
    report = SoakReport()
    for first in range(0, num_requests, every):
        waiting = iter(range(first, min(first + every, num_requests)))

        async def worker(waiting: object = waiting) -> None:
            for index in waiting:  # type: ignore[attr-defined]
                kind = KINDS[index % len(KINDS)]
                report.outcomes[f"{kind}: {await _one(service, kind, np.random.default_rng([seed, index]))}"] += 1

        await asyncio.gather(*(worker() for _ in range(NUM_AT_ONCE)))
        await service.service.drain()
        gc.collect()
        report.rss_mb.append(rss_mb())
        log(f"{first + every:>6} requests  {report.rss_mb[-1]:8.1f} MB")
    return report


async def leftovers(service: SoakService, num_tasks_before: int) -> dict[str, int]:
    """Return what is still held; empty when everything is free. Closes and features on the wire get SETTLE_S to arrive."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SETTLE_S
    while True:
        held = {name: count for name, count in service.held().items() if count}
        if len(asyncio.all_tasks()) > num_tasks_before:
            held["tasks"] = len(asyncio.all_tasks()) - num_tasks_before
        if not held or loop.time() > deadline:
            return held
        await asyncio.sleep(0.02)


def rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def _one(service: SoakService, kind: str, rng: np.random.Generator) -> str:
    task = asyncio.ensure_future(_run(service, kind, rng))
    if kind == "cancelled":
        await asyncio.sleep(float(rng.uniform(0.0, 0.03)))
        task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return "cancelled"
    except RequestError:
        return "refused"
    except HedgeSpecError as error:
        return type(error).__name__


async def _run(service: SoakService, kind: str, rng: np.random.Generator) -> str:
    max_chunks = int(rng.integers(0, 4)) if kind == "closed" else None
    num_chunks = 0
    async with aclosing(service.service.generate(_request(service, kind, rng))) as chunks:
        if max_chunks == 0:
            return "never begun"
        async for chunk in chunks:
            num_chunks += 1
            if chunk.finish_reason is not None:
                return chunk.finish_reason
            if num_chunks == max_chunks:
                return "closed early"
    raise AssertionError("an answer ended without a finish reason")


def _request(service: SoakService, kind: str, rng: np.random.Generator) -> GenerationRequest:
    number = int(rng.integers(1 << 30))
    settings: dict[str, object] = {"temperature": float(rng.choice([0.0, 1.0])), "max_tokens": int(rng.integers(1, 16))}
    drafter: str | None = None
    if kind == "seeded":
        settings |= {"temperature": 1.0, "seed": number}
    elif kind == "pinned":
        drafter = str(rng.choice(["none", "random", *service.drafter_ids]))
    elif kind == "penalties":
        settings |= {"presence_penalty": 0.5, "repetition_penalty": 1.2}
    elif kind == "stop string":
        settings |= {"stop": tuple("aeiou "), "temperature": 1.0, "max_tokens": 24}
    elif kind == "refused":
        drafter = "unknown"
    elif kind == "too long":
        settings |= {"max_tokens": 1_000_000}
    prompt_ids = rng.integers(0, service.vocab_size, int(rng.integers(1, 32))).astype(np.int32)
    sampling = SamplingParams(**settings)  # type: ignore[arg-type]
    return GenerationRequest(f"{kind}-{number}", f"tenant-{number % 3}", prompt_ids, sampling, drafter=drafter)


async def _main(num_requests: int, models: str, is_remote: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        built = tabular_service(is_remote) if models == "tabular" else tiny_service(Path(folder), is_remote)
        async with built as service:
            await soak(service, WARM_UP, seed=1)
            num_tasks = len(asyncio.all_tasks())
            report = await soak(
                service, num_requests, max(num_requests // 20, 1), log=lambda line: print(line, flush=True)
            )
            held = await leftovers(service, num_tasks)
    for outcome, count in sorted(report.outcomes.items()):
        print(f"{outcome:<32} {count}")
    print(
        f"growth after the first twentieth: {report.rss_mb[-1] - report.rss_mb[0]:.1f} MB; still held: {held or 'nothing'}"
    )
    if held:
        raise SystemExit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--models", choices=("tabular", "tiny"), default="tabular")
    parser.add_argument("--grpc", action="store_true", help="every model behind its own gRPC server")
    chosen = parser.parse_args()
    asyncio.run(_main(chosen.requests, chosen.models, chosen.grpc))
