"""The endpoints for models, health, version, metrics, tokenize and detokenize answer as documented."""

from __future__ import annotations

from typing import Any

import httpx

from hedgespec.api.app import create_app
from hedgespec.config import LimitsConfig
from hedgespec.observability.metrics import Metrics
from hedgespec.tenancy.tenants import Tenants
from tests.scripted_generator import ScriptedGenerator, byte_tokenizer


def make_client(model_name: str = "m", **options: Any) -> httpx.AsyncClient:
    app = create_app(
        ScriptedGenerator(),
        byte_tokenizer(max_model_len=128),
        Tenants(None),
        Metrics(model_name, ("sql",), replica="r"),
        LimitsConfig(),
        model_name,
        version="1.2.3",
        now=lambda: 1_700_000_000.5,
        **options,
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


async def test_the_model_is_listed_with_what_clients_look_for() -> None:
    client = make_client()
    model = {
        "id": "m", "object": "model", "created": 1_700_000_000, "owned_by": "hedgespec", "root": "m", "parent": None,
        "max_model_len": 128,
    }  # fmt: skip
    assert (await client.get("/v1/models")).json() == {"object": "list", "data": [model]}
    assert (await client.get("/v1/models/m")).json() == model


async def test_a_model_name_may_have_slashes() -> None:
    assert (await make_client("org/name").get("/v1/models/org/name")).json()["id"] == "org/name"


async def test_health_follows_readiness() -> None:
    ready = [False]
    client = make_client(is_ready=lambda: ready[0])
    response = await client.get("/health")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "not_ready")
    ready[0] = True
    assert (await client.get("/health")).json() == {"status": "ok"}


async def test_the_version_is_returned() -> None:
    assert (await make_client().get("/version")).json() == {"version": "1.2.3"}


async def test_metrics_count_requests_by_route_and_never_by_what_a_client_invents() -> None:
    client = make_client()
    await client.post("/v1/completions", json={"model": "m", "prompt": "hi"})
    await client.get("/v1/models/zq-invented")
    await client.get("/zq-invented")
    response = await client.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    text = response.text
    assert 'hedgespec_http_requests_total{endpoint="/v1/completions",replica="r",status="200"} 1.0' in text
    assert 'hedgespec_http_requests_total{endpoint="/v1/models/{model_id:path}",replica="r",status="404"} 1.0' in text
    assert 'hedgespec_http_requests_total{endpoint="other",replica="r",status="404"} 1.0' in text
    assert "vllm:spec_decode_num_drafts_total" in text
    assert "zq-invented" not in text


async def test_tokenize_and_detokenize_are_inverse() -> None:
    client = make_client()
    tokens = (await client.post("/tokenize", json={"model": "m", "prompt": "héllo"})).json()
    assert (tokens["count"], tokens["max_model_len"]) == (6, 128)
    text = (await client.post("/detokenize", json={"tokens": tokens["tokens"]})).json()
    assert text == {"prompt": "héllo"}


async def test_tokenize_takes_messages_and_renders_them_as_chat_does() -> None:
    client = make_client()
    tokens = (await client.post("/tokenize", json={"messages": [{"role": "user", "content": "x"}]})).json()["tokens"]
    assert (await client.post("/detokenize", json={"tokens": tokens})).json()["prompt"] == "<user>x<assistant>"
    for body in ({}, {"prompt": "x", "messages": [{"role": "user", "content": "x"}]}):
        assert (await client.post("/tokenize", json=body)).status_code == 400


async def test_a_long_text_is_tokenized_beside_the_event_loop_with_the_same_result() -> None:
    text = "abc" * 5000
    tokens = (await make_client().post("/tokenize", json={"prompt": text})).json()
    assert tokens["count"] == len(text)


async def test_detokenize_refuses_ids_that_the_model_does_not_have() -> None:
    response = await make_client().post("/detokenize", json={"tokens": [257]})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "tokens")
