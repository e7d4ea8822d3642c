"""The exact bytes of streams: what a client's parser sees must not change by accident."""

from __future__ import annotations

from typing import Any

import httpx

from hedgespec.api.app import create_app
from hedgespec.config import LimitsConfig
from hedgespec.errors import TargetUnavailable
from hedgespec.observability.metrics import Metrics
from hedgespec.tenancy.tenants import Tenants
from hedgespec.types import DecodeStats
from tests.scripted_generator import ScriptedGenerator, byte_tokenizer

STATS = DecodeStats(
    num_rounds=2,
    num_drafts=1,
    num_drafted=3,
    num_accepted=1,
    rounds_by_drafter={"sql": 1},
    drafted_by_drafter={"sql": 3},
    accepted_by_drafter={"sql": 1},
    accepted_per_position=[1, 0, 0],
    expected_passes={"sql": 2.0},
    weights={"sql": 0.5},
    draft_s=0.25,
)


async def stream(path: str, generator: ScriptedGenerator, **body: Any) -> bytes:
    app = create_app(
        generator,
        byte_tokenizer(),
        Tenants(None),
        Metrics("m", ("sql",)),
        LimitsConfig(),
        "m",
        version="1",
        now=lambda: 1_700_000_000.0,
        request_id=lambda: "0123",
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        response = await client.post(path, json={"model": "m", "stream": True, **body})
    assert response.status_code == 200
    return response.content


async def test_completion_stream_with_usage() -> None:
    """Characters beyond ASCII are escaped: U+2028 would end a line for some clients."""
    generator = ScriptedGenerator(pieces=("é\u2028", "b"))
    got = await stream("/v1/completions", generator, prompt="hi", stream_options={"include_usage": True})
    assert got == (
        rb'data: {"id":"cmpl-0123","object":"text_completion","created":1700000000,"model":"m",'
        rb'"choices":[{"index":0,"text":"\u00e9\u2028","logprobs":null,"finish_reason":null}],"usage":null}'
        b"\n\n"
        b'data: {"id":"cmpl-0123","object":"text_completion","created":1700000000,"model":"m",'
        b'"choices":[{"index":0,"text":"b","logprobs":null,"finish_reason":"stop"}],"usage":null}\n\n'
        b'data: {"id":"cmpl-0123","object":"text_completion","created":1700000000,"model":"m",'
        b'"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":2,"total_tokens":4,'
        b'"prompt_tokens_details":{"cached_tokens":0}}}\n\n'
        b"data: [DONE]\n\n"
    )


async def test_chat_stream_with_the_report_on_its_last_chunk() -> None:
    generator = ScriptedGenerator(pieces=("a", "b"), stats=STATS)
    messages = [{"role": "user", "content": "hi"}]
    got = await stream("/v1/chat/completions", generator, messages=messages, hedgespec={"report": True})
    assert got == (
        b'data: {"id":"chatcmpl-0123","object":"chat.completion.chunk","created":1700000000,"model":"m",'
        b'"choices":[{"index":0,"delta":{"role":"assistant","content":"a"},"logprobs":null,"finish_reason":null}]}\n\n'
        b'data: {"id":"chatcmpl-0123","object":"chat.completion.chunk","created":1700000000,"model":"m",'
        b'"choices":[{"index":0,"delta":{"content":"b"},"logprobs":null,"finish_reason":"stop"}],'
        b'"hedgespec":{"rounds":2,"drafts":1,"drafted":3,"accepted":1,"mean_accepted_tokens":1.0,'
        b'"acceptance_rate":0.3333,"accepted_per_position":[1,0,0],"rounds_per_drafter":{"sql":1},'
        b'"drafted_per_drafter":{"sql":3},"accepted_per_drafter":{"sql":1},"expected_passes":{"sql":2.0},'
        b'"weights":{"sql":0.5},"migrations":0,'
        b'"seconds":{"draft":0.25,"verify":0.0,"learn":0.0,"transport":0.0,"overhead":0.0}}}\n\n'
        b"data: [DONE]\n\n"
    )


async def test_stream_that_breaks_in_the_middle() -> None:
    generator = ScriptedGenerator(error=TargetUnavailable("x"), error_at=1)
    got = await stream("/v1/completions", generator, prompt="hi")
    assert got == (
        b'data: {"id":"cmpl-0123","object":"text_completion","created":1700000000,"model":"m",'
        b'"choices":[{"index":0,"text":"Hello","logprobs":null,"finish_reason":null}]}\n\n'
        b'data: {"error":{"message":"No model replica could serve the request in time. Try again shortly.",'
        b'"type":"service_unavailable_error","param":null,"code":"upstream_unavailable"}}\n\n'
    )
