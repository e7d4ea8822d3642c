"""Preferences that one router learned from a tenant's traffic are there in the first round on the next one, seen
through HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hedgespec.config import AppArgs
from hedgespec.tenancy.keys import mint_key
from hedgespec.tenancy.tenants import Tenants
from tests.http_router import MODEL, http_router
from tests.redis_server import running_redis

ACME, ACME_HASH = mint_key()
OTHER, OTHER_HASH = mint_key()
TENANTS = Tenants({ACME_HASH: "acme", OTHER_HASH: "other-inc"})


def args(store_url: str) -> AppArgs:
    return AppArgs.model_validate(
        {
            "target": {"model": "tabular:7"},
            "drafters": [
                {"id": "far", "kind": "tabular", "model": "tabular:2,closeness=0.05"},
                {"id": "near", "kind": "tabular", "model": "tabular:1,closeness=0.97"},
                {"id": "middle", "kind": "tabular", "model": "tabular:3,closeness=0.4"},
            ],
            "learner": {"objective": "rounds"},  # the weights are then those of the drafters alone
            # a disk or a machine may be slow for a moment: nothing here depends on how soon the store answers
            "store": {
                "url": store_url,
                "flush_interval_s": 0.05,
                "refresh_interval_s": 0.05,
                "operation_timeout_s": 10.0,
            },
        }
    )


async def ask(client: httpx.AsyncClient, key: str, max_tokens: int, **options: Any) -> dict[str, Any]:
    body = {
        "model": MODEL,
        "prompt": "the quick brown fox",
        "max_tokens": max_tokens,
        "temperature": 0,
        "hedgespec": {"report": True, **options},
    }
    answer = await client.post("/v1/completions", json=body, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200, answer.text
    report: dict[str, Any] = answer.json()["hedgespec"]
    return report


async def first_round_weights(client: httpx.AsyncClient, key: str, **options: Any) -> dict[str, float]:
    """One token is decided before anything of this answer can have been learned."""
    weights: dict[str, float] = (await ask(client, key, 1, **options))["weights"]
    return weights


@pytest.fixture(params=["sqlite", "redis"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'preferences.sqlite3'}"
        return
    with running_redis() as server:
        yield server.url


async def test_restarted_router_favours_the_learned_drafter_from_the_first_round(store_url: str):
    async with http_router(args(store_url), TENANTS) as client:
        fresh = await first_round_weights(client, ACME)
        assert fresh == pytest.approx({"far": 1 / 3, "near": 1 / 3, "middle": 1 / 3}, abs=1e-5)
        for _ in range(4):
            report = await ask(client, ACME, 60)
        assert report["rounds_per_drafter"]["near"] > 0
    async with http_router(args(store_url), TENANTS) as restarted:
        weights = await first_round_weights(restarted, ACME)
        assert weights["near"] > 0.6
        assert await first_round_weights(restarted, OTHER) == pytest.approx(fresh, abs=1e-5), "tenants are apart"
        assert await first_round_weights(restarted, ACME, scope="sql") == pytest.approx(fresh, abs=1e-5)


async def test_second_router_learns_from_the_first_while_both_serve(store_url: str):
    async with http_router(args(store_url), TENANTS) as first, http_router(args(store_url), TENANTS) as second:
        await first_round_weights(second, ACME)  # it has already loaded what little there was
        for _ in range(4):
            await ask(first, ACME, 60)
        async with asyncio.timeout(60):  # its cache is refreshed in the background, on use
            while (await first_round_weights(second, ACME))["near"] <= 0.6:  # noqa: ASYNC110 - it is in the store
                await asyncio.sleep(0.05)
