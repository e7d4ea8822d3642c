"""Work for a client stops at once when it goes; when it reads slowly, work waits for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import pytest

from hedgespec.api import sse
from hedgespec.api.app import create_app
from hedgespec.api.sse import ClientGone, unless_gone
from hedgespec.config import LimitsConfig
from hedgespec.observability.metrics import Metrics
from hedgespec.tenancy.tenants import Tenants
from hedgespec.types import GenerationChunk, GenerationRequest
from tests.scripted_generator import ScriptedGenerator, byte_tokenizer
from tests.waiting import eventually

Message = MutableMapping[str, Any]


class Endless(ScriptedGenerator):
    """Never ends by itself, counts its steps, and has a clean-up that takes a moment, as a real one does."""

    num_steps = 0
    is_cleaned_up = False

    async def generate(self, request: GenerationRequest) -> AsyncIterator[GenerationChunk]:
        self.num_open += 1
        try:
            while True:
                self.num_steps += 1
                yield GenerationChunk("x" * 50, (1,))
                await asyncio.sleep(0.001)
        finally:
            self.num_open -= 1
            await asyncio.sleep(0.01)
            self.is_cleaned_up = True


class Connection:
    """The server's side of one request: what a client sends, and what it has received."""

    def __init__(self, generator: ScriptedGenerator, metrics: Metrics | None = None, **body: Any) -> None:
        self.metrics = metrics or Metrics("m", ())
        self.app = create_app(
            generator,
            byte_tokenizer(),
            Tenants(None),
            self.metrics,
            LimitsConfig(),
            "m",
            version="1",
            keep_alive_s=0.01,
        )
        self.body = json.dumps({"model": "m", "prompt": "hi", **body}).encode()
        self.gone = asyncio.Event()
        self.reading = asyncio.Event()
        self.reading.set()
        self.received: list[Message] = []
        self.has_body = asyncio.Event()
        self._is_body_sent = False

    async def run(self) -> None:
        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "POST",
            "scheme": "http", "path": "/v1/completions", "raw_path": b"",
            "query_string": b"", "root_path": "",
            "headers": headers, "client": ("127.0.0.1", 1), "server": ("localhost", 80),
        }  # fmt: skip
        await self.app(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        if not self._is_body_sent:
            self._is_body_sent = True
            return {"type": "http.request", "body": self.body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await self.reading.wait()
        self.received.append(message)
        if message["type"] == "http.response.body":
            self.has_body.set()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_stops_its_generation_and_waits_for_the_clean_up(stream: bool) -> None:
    generator = Endless()
    connection = Connection(generator, stream=stream)
    request = asyncio.create_task(connection.run())
    await (connection.has_body.wait() if stream else eventually(lambda: generator.num_steps > 3))
    assert generator.num_open == 1
    connection.gone.set()
    await asyncio.wait_for(request, timeout=10.0)
    assert (generator.num_open, generator.is_cleaned_up) == (0, True)
    steps = generator.num_steps
    await asyncio.sleep(0.02)
    assert generator.num_steps == steps
    assert 'hedgespec_requests_running{replica="0"} 0.0' in connection.metrics.render().decode()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_before_the_first_token_stops_it_too(stream: bool) -> None:
    generator = ScriptedGenerator(delay_s=30.0)
    connection = Connection(generator, stream=stream)
    request = asyncio.create_task(connection.run())
    await eventually(lambda: generator.num_open == 1)
    connection.gone.set()
    await asyncio.wait_for(request, timeout=10.0)
    assert (generator.num_open, generator.num_closed) == (0, 1)
    assert 'endpoint="/v1/completions",replica="0",status="499"' in connection.metrics.render().decode()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_that_the_server_cancels_is_cleaned_up_as_well(stream: bool) -> None:
    """Ray Serve cancels the handler's task when the client goes, instead of signalling the disconnect or before it does."""
    generator = Endless()
    connection = Connection(generator, stream=stream)
    request = asyncio.create_task(connection.run())
    await (connection.has_body.wait() if stream else eventually(lambda: generator.num_steps > 3))
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert (generator.num_open, generator.is_cleaned_up) == (0, True)


async def test_a_client_that_reads_slowly_holds_its_generation_back_instead_of_filling_memory() -> None:
    generator = Endless()
    connection = Connection(generator, stream=True)
    request = asyncio.create_task(connection.run())
    await connection.has_body.wait()
    connection.reading.clear()
    steps = generator.num_steps
    await asyncio.sleep(0.2)
    assert generator.num_steps - steps < 20  # it would do two hundred
    connection.reading.set()
    await eventually(lambda: generator.num_steps > steps + 40)
    connection.gone.set()
    await request


async def test_a_client_that_stops_reading_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "SEND_TIMEOUT_S", 0.05)
    generator = Endless()
    connection = Connection(generator, stream=True)
    request = asyncio.create_task(connection.run())
    await connection.has_body.wait()
    connection.reading.clear()
    await asyncio.wait_for(request, timeout=10.0)
    assert (generator.num_open, generator.is_cleaned_up) == (0, True)
    assert not any(b"[DONE]" in m.get("body", b"") for m in connection.received)


async def test_unless_gone_returns_the_result_or_raises_what_the_work_raised() -> None:
    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def fail() -> None:
        raise KeyError

    assert await unless_gone(never, asyncio.sleep(0, "done")) == "done"
    with pytest.raises(KeyError):
        await unless_gone(never, fail())

    async def leave() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(ClientGone):
        await unless_gone(leave, asyncio.sleep(30))
