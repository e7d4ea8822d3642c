"""The official openai client against the real HTTP stack: uvicorn on a socket, a scripted generator behind it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
import uvicorn

from hedgespec.api.app import create_app
from hedgespec.config import LimitsConfig
from hedgespec.errors import TargetUnavailable
from hedgespec.observability.metrics import Metrics
from hedgespec.tenancy.keys import mint_key
from hedgespec.tenancy.tenants import Tenants
from hedgespec.types import DecodeStats
from tests.scripted_generator import ScriptedGenerator, byte_tokenizer
from tests.waiting import eventually

MESSAGES: Any = [{"role": "user", "content": "hi"}]
SECRET, HASH = mint_key()


@asynccontextmanager
async def serving(generator: ScriptedGenerator, **limits: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    """A server on a free port, and a client that holds the right key and does not retry."""
    app = create_app(
        generator,
        byte_tokenizer(),
        Tenants({HASH: "acme"}),
        Metrics("m", ("sql",)),
        LimitsConfig(**limits),
        "m",
        version="1",
    )
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    try:
        async with openai.AsyncOpenAI(base_url=url, api_key=SECRET, max_retries=0) as client:
            yield client
    finally:
        server.should_exit = True
        await running


async def test_chat_whole_and_streamed_give_the_same_text() -> None:
    async with serving(ScriptedGenerator(pieces=("Hé", "llo", " 😀"))) as client:
        whole = await client.chat.completions.create(model="m", messages=MESSAGES)
        assert whole.choices[0].message.content == "Héllo 😀"
        assert whole.usage is not None
        assert whole.usage.completion_tokens == 3
        stream = await client.chat.completions.create(
            model="m", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Héllo 😀"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage == whole.usage


async def test_completions_whole_and_streamed_give_the_same_text() -> None:
    async with serving(ScriptedGenerator()) as client:
        whole = await client.completions.create(model="m", prompt=["a", "b"], max_tokens=2)
        assert [(c.index, c.text, c.finish_reason) for c in whole.choices] == [
            (0, "Hello,", "length"),
            (1, "Hello,", "length"),
        ]
        stream = await client.completions.create(model="m", prompt="a", stream=True)
        assert "".join([chunk.choices[0].text async for chunk in stream]) == "Hello, world"


async def test_our_own_options_and_report_pass_through_the_client() -> None:
    stats = DecodeStats(num_rounds=2, num_drafted=4, num_accepted=1, weights={"sql": 1.0})
    async with serving(ScriptedGenerator(stats=stats)) as client:
        extra = {"hedgespec": {"report": True, "drafter": "sql"}, "top_k": 5}
        answer = await client.chat.completions.create(model="m", messages=MESSAGES, extra_body=extra)
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True, extra_body=extra)
        last = [chunk async for chunk in stream][-1]
    assert answer.model_extra is not None
    assert last.model_extra is not None
    assert answer.model_extra["hedgespec"]["weights"] == {"sql": 1.0}
    assert last.model_extra["hedgespec"]["accepted"] == 1


async def test_models_are_listed_and_retrieved() -> None:
    async with serving(ScriptedGenerator()) as client:
        assert [m.id async for m in client.models.list()] == ["m"]
        assert (await client.models.retrieve("m")).owned_by == "hedgespec"


async def test_errors_arrive_as_the_clients_own_exceptions() -> None:
    async with serving(ScriptedGenerator()) as client:
        with pytest.raises(openai.BadRequestError) as bad:
            await client.chat.completions.create(model="m", messages=MESSAGES, temperature=3)
        assert (bad.value.param, bad.value.code) == ("temperature", "invalid_value")
        with pytest.raises(openai.NotFoundError) as missing:
            await client.completions.create(model="other", prompt="x")
        assert missing.value.code == "model_not_found"
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.with_options(api_key="sk-wrong").models.list()
        assert refused.value.code == "invalid_api_key"
        with pytest.raises(openai.BadRequestError) as long:
            await client.completions.create(model="m", prompt="x" * 9000)
        assert long.value.code == "context_length_exceeded"


async def test_the_client_retries_overload_as_the_server_says_and_not_what_cannot_succeed() -> None:
    generator = ScriptedGenerator(error=TargetUnavailable("x"))
    async with serving(generator) as client:
        eager = client.with_options(max_retries=1)
        with pytest.raises(openai.InternalServerError) as caught:
            await eager.completions.create(model="m", prompt="x")
        assert caught.value.status_code == 503
        assert len(generator.requests) == 2
        with pytest.raises(openai.BadRequestError):
            await eager.completions.create(model="m", prompt="x", n=2)
        assert len(generator.requests) == 2


async def test_an_error_in_the_middle_of_a_stream_raises() -> None:
    async with serving(ScriptedGenerator(error=TargetUnavailable("x"), error_at=1)) as client:
        stream = await client.completions.create(model="m", prompt="x", stream=True)
        texts = []
        with pytest.raises(openai.APIError) as caught:  # noqa: PT012 (the text before the error is the point)
            async for chunk in stream:
                texts.append(chunk.choices[0].text)
    assert texts == ["Hello"]
    assert caught.value.code == "upstream_unavailable"


async def test_a_client_that_closes_its_stream_stops_the_generation() -> None:
    generator = ScriptedGenerator(pieces=["x"] * 200, delay_s=0.01)
    async with serving(generator) as client:
        stream = await client.completions.create(model="m", prompt="x", stream=True)
        async for _ in stream:
            break
        assert generator.num_open == 1
        await stream.close()
        await until_idle(generator)
    assert generator.num_closed == 1


async def test_a_client_that_gives_up_waiting_stops_the_generation() -> None:
    generator = ScriptedGenerator(delay_s=30.0)
    async with serving(generator) as client:
        with pytest.raises(openai.APITimeoutError):
            await client.with_options(timeout=0.3).completions.create(model="m", prompt="x")
        await until_idle(generator)


async def test_a_body_without_a_length_is_cut_off_on_the_wire() -> None:
    """Chunked transfer that never ends: the server answers 413 and closes the connection."""
    async with serving(ScriptedGenerator(), max_body_bytes=100_000) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        head = (
            "POST /v1/completions HTTP/1.1",
            "Host: localhost",
            f"Authorization: Bearer {SECRET}",
            "Content-Type: application/json",
            "Transfer-Encoding: chunked",
        )
        writer.write("\r\n".join([*head, "", ""]).encode())
        for _ in range(3):
            writer.write(b"8000\r\n" + b" " * 0x8000 + b"\r\n")
        writer.write(b"8000\r\n" + b" " * 0x4000)
        async with asyncio.timeout(5.0):
            answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"request_too_large"' in answer


async def until_idle(generator: ScriptedGenerator) -> None:
    await eventually(lambda: generator.num_open == 0)
