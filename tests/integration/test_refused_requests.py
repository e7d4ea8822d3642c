"""The decode loop's service refuses unknown drafters and answers that exceed the context, seen through HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from hedgespec.config import AppArgs
from hedgespec.tenancy.tenants import Tenants
from tests.http_router import MODEL, http_router

ARGS = AppArgs.model_validate(
    {
        "target": {"model": "tabular:7"},
        "drafters": [{"id": "near", "kind": "tabular", "model": "tabular:1,closeness=0.97"}],
        "store": {"url": "memory://"},
    }
)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with http_router(ARGS, Tenants(None)) as client:
        yield client


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("prompt", ["fox", ["fox", "dog", "cat"]])
async def test_an_unknown_drafter_is_a_400_that_lists_the_known(
    client: httpx.AsyncClient, prompt: Any, is_stream: bool
) -> None:
    """Streams and requests with several prompts are refused as well: nothing has been sent when the check fails."""
    body = {"model": MODEL, "prompt": prompt, "stream": is_stream, "hedgespec": {"drafter": "far"}}
    answer = await client.post("/v1/completions", json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("unknown_drafter", "hedgespec.drafter")
    assert "near" in error["message"]


@pytest.mark.parametrize("is_stream", [False, True])
async def test_an_answer_that_does_not_fit_the_context_is_a_400(client: httpx.AsyncClient, is_stream: bool) -> None:
    """A stated max_tokens must fit behind every prompt."""
    limit = (await client.get(f"/v1/models/{MODEL}")).json()["max_model_len"]
    body = {"model": MODEL, "prompt": [[3], [3] * (limit - 2)], "stream": is_stream, "max_tokens": 3}
    answer = await client.post("/v1/completions", json=body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert f"context is {limit} tokens" in error["message"]


async def test_the_default_length_shrinks_to_what_the_context_leaves(client: httpx.AsyncClient) -> None:
    """The default length may shrink to one token; a prompt that leaves none is refused."""
    limit = (await client.get(f"/v1/models/{MODEL}")).json()["max_model_len"]
    body = {"model": MODEL, "ignore_eos": True}
    for room in (2, 1):
        fitting = await client.post("/v1/completions", json={**body, "prompt": [3] * (limit - room)})
        assert fitting.json()["usage"]["completion_tokens"] == room
    full = await client.post("/v1/completions", json={**body, "prompt": [3] * limit})
    assert (full.status_code, full.json()["error"]["code"]) == (400, "context_length_exceeded")
