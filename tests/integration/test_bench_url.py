"""`--url` of the benchmarks: a server that is not there, or is not ours, is one line that says what to do."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from deployments import cli
from hedgespec.bench.http_generator import HttpGenerator
from hedgespec.errors import HedgeSpecError


@pytest.mark.parametrize("command", ["decode", "serve"])
def test_a_server_that_is_not_there_is_one_clear_line(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setattr(sys, "argv", ["hedgespec", "bench", command, "--url", url])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == cli.EXIT_FAILED
    assert capsys.readouterr().err.startswith(f"error: No OpenAI-compatible server at {url}: ")


async def test_a_server_without_our_report_is_named() -> None:
    """Another server has models and completions too; without a speculation report there is nothing to compare."""

    async def models(_: Request) -> JSONResponse:
        return JSONResponse({"data": [{"id": "m"}]})

    async def completions(_: Request) -> JSONResponse:
        return JSONResponse({"choices": [{"text": "x", "finish_reason": "stop"}]})

    app = Starlette(routes=[Route("/v1/models", models), Route("/v1/completions", completions, methods=["POST"])])
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        async with HttpGenerator(url, None) as generator:
            with pytest.raises(HedgeSpecError, match="is it HedgeSpec"):
                await generator.drafter_ids()
    finally:
        server.should_exit = True
        await running
