"""Nothing leaks: after hundreds of short requests of every kind everything that they held is free again.

`python -m tests.soak` runs the same load at any length.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path

import numpy as np
import pytest

from hedgespec.types import GenerationRequest, SamplingParams
from tests.soak import KINDS, WARM_UP, leftovers, rss_mb, soak
from tests.soak_service import SoakService, tabular_service, tiny_service

MAX_GROWTH_MB = {"tabular": 8.0, "tiny": 96.0}
"""After the warm-up. Tabular models grow by less than 1 MB here. Real ones make oneDNN keep code for every new number of
rows, 0.4 MB per layer shape (`models/lean/packed_linear.py`), which a warm-up of this length has not all seen."""


def built(models: str, is_remote: bool, folder: Path) -> AbstractAsyncContextManager[SoakService]:
    return tabular_service(is_remote) if models == "tabular" else tiny_service(folder, is_remote)


@pytest.mark.parametrize(
    ("models", "is_remote", "num_requests"),
    [("tabular", False, 300), ("tabular", True, 300), ("tiny", False, 60), ("tiny", True, 40)],
)
async def test_everything_is_free_after_many_short_requests(
    models: str, is_remote: bool, num_requests: int, tmp_path: Path
) -> None:
    """Sessions, KV tokens, feature rows, tasks, leases and awaited replies are all free, whatever ended the requests,
    and memory stays where the warm-up has brought it. Errors in background tasks fail the test as well."""
    failures: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(str(context)))
    async with built(models, is_remote, tmp_path) as service:
        await soak(service, WARM_UP, seed=1)
        num_tasks, before_mb = len(asyncio.all_tasks()), rss_mb()
        report = await soak(service, num_requests)
        assert await leftovers(service, num_tasks) == {}
    assert failures == []
    assert sum(report.outcomes.values()) == num_requests
    assert report.rss_mb[-1] - before_mb < MAX_GROWTH_MB[models]
    ended = {outcome for outcome in report.outcomes}
    assert {"refused: refused", "too long: refused", "greedy: length", "stop string: stop"} <= ended
    assert {"closed: closed early", "closed: never begun", "cancelled: cancelled"} <= ended
    assert {outcome.partition(":")[0] for outcome in ended} == set(KINDS)


async def test_an_answer_in_the_middle_is_seen() -> None:
    """The accounting itself can fail: an answer that is held shows as a session of each model and a leased slot."""
    async with tabular_service(is_remote=False) as service:
        request = GenerationRequest("held", "acme", np.arange(8, dtype=np.int32), SamplingParams(max_tokens=100))
        async with aclosing(service.service.generate(request)) as chunks:
            await anext(chunks)
            held = service.held()
        await service.service.drain()
        assert not any(service.held().values())
    assert held["leased slots"] == 1
    assert [count for name, count in held.items() if name.startswith("sessions of model")] == [1, 1, 1, 1]
