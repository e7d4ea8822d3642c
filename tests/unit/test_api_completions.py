"""Answers of the two generation endpoints, with a scripted generator behind them."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
import structlog

from hedgespec.api.app import create_app
from hedgespec.config import LimitsConfig
from hedgespec.errors import RequestError, TargetUnavailable
from hedgespec.observability.logging import configure_logging
from hedgespec.observability.metrics import Metrics
from hedgespec.tenancy.tenants import Tenants
from hedgespec.types import DecodeStats, GenerationChunk, GenerationRequest
from tests.scripted_generator import ScriptedGenerator, byte_tokenizer

DRAFTERS = ("sql", "ngram")
STATS = DecodeStats(
    num_rounds=2,
    num_drafts=2,
    num_drafted=4,
    num_accepted=1,
    accepted_per_position=[1, 0],
    weights={"sql": 0.7, "ngram": 0.3},
)


class Server:
    """An application and a client to it, without a socket."""

    def __init__(self, generator: Any = None, **settings: Any) -> None:
        self.generator = generator or ScriptedGenerator(stats=STATS)
        self.metrics = Metrics("m", DRAFTERS)
        options: dict[str, Any] = {"limits": LimitsConfig(max_concurrent_per_tenant=3), "version": "1", **settings}
        self.app = create_app(
            self.generator,
            byte_tokenizer(),
            Tenants(None),
            self.metrics,
            model_name="m",
            **options,
        )
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://localhost")

    async def complete(self, **body: Any) -> httpx.Response:
        return await self.client.post("/v1/completions", json={"model": "m", "prompt": "hi", **body})

    async def chat(self, **body: Any) -> httpx.Response:
        content = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **body}
        return await self.client.post("/v1/chat/completions", json=content)

    async def request_made(self, **body: Any) -> GenerationRequest:
        response = await self.complete(**body)
        assert response.status_code == 200, response.text
        return self.generator.requests[-1]


def events(response: httpx.Response) -> list[Any]:
    """The stream's objects; `[DONE]` and comments as they are."""
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    parts = response.text.split("\n\n")
    assert parts.pop() == ""
    bare = [p.removeprefix("data: ") for p in parts]
    return [json.loads(p) if p.startswith("{") else p for p in bare]


def usage(num_prompt: int, num_answer: int, num_cached: int = 0) -> dict[str, Any]:
    return {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_answer,
        "total_tokens": num_prompt + num_answer,
        "prompt_tokens_details": {"cached_tokens": num_cached},
    }


async def test_a_completion_has_text_reason_usage_and_our_request_id() -> None:
    response = await Server().complete()
    answer = response.json()
    assert answer["id"] == "cmpl-" + response.headers["x-request-id"]
    assert (answer["object"], answer["model"]) == ("text_completion", "m")
    assert answer["choices"] == [{"index": 0, "text": "Hello, world", "logprobs": None, "finish_reason": "stop"}]
    assert answer["usage"] == usage(2, 3)
    assert "hedgespec" not in answer


async def test_a_chat_answer_is_a_message_and_the_prompt_went_through_the_template() -> None:
    server = Server()
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": parts}]
    answer = (await server.chat(messages=messages)).json()
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Hello, world", "refusal": None}
    prompt = byte_tokenizer().decode(server.generator.requests[0].prompt_ids)
    assert prompt == "<system>be brief<user>a\nb<assistant>"


async def test_an_answer_of_ours_may_come_back_as_history() -> None:
    """The openai client sends the whole message object back, null fields included."""
    answer = (await Server().chat()).json()["choices"][0]["message"]
    sent = {**answer, "annotations": None, "audio": None, "function_call": None, "tool_calls": None}
    assert (await Server().chat(messages=[sent, {"role": "user", "content": "go on"}])).status_code == 200


async def test_parameters_reach_the_generator_and_defaults_are_openais() -> None:
    server = Server()
    plain = (await server.request_made()).sampling
    assert (plain.temperature, plain.top_p, plain.top_k, plain.seed, plain.max_tokens) == (1.0, 1.0, 0, None, 254)
    full = await server.request_made(
        temperature=0, top_p=0.5, top_k=-1, seed=-5, max_tokens=7, stop="x", stop_token_ids=[3], ignore_eos=True,
        logit_bias={"4": -100}, presence_penalty=-2, frequency_penalty=2, repetition_penalty=1.5, user="u",
        metadata={"a": "b"},
        hedgespec={"drafter": "sql", "max_draft_tokens": 0, "scope": "notebook"},
    )  # fmt: skip
    sampling = full.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.seed) == (0.0, 0.5, 0, -5)
    assert (sampling.max_tokens, sampling.stop, sampling.stop_token_ids, sampling.ignore_eos) == (7, ("x",), (3,), True)
    assert sampling.logit_bias == ((4, -100.0),)
    assert (sampling.presence_penalty, sampling.frequency_penalty, sampling.repetition_penalty) == (-2.0, 2.0, 1.5)
    assert (full.tenant, full.scope, full.drafter, full.max_draft_tokens) == ("default", "notebook", "sql", 0)


async def test_null_means_absent() -> None:
    server = Server()
    names = [
        "temperature",
        "top_p",
        "seed",
        "stop",
        "max_tokens",
        "logit_bias",
        "stream",
        "user",
        "n",
        "logprobs",
        "suffix",
    ]
    await server.request_made(**dict.fromkeys(names))


async def test_max_completion_tokens_is_max_tokens_for_chat() -> None:
    server = Server()
    answer = (await server.chat(max_completion_tokens=2)).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 2


async def test_a_prompt_may_be_token_ids() -> None:
    server = Server()
    for prompt in ([5, 6], [[5, 6]]):
        made = await server.request_made(prompt=prompt)
        assert made.prompt_ids.tolist() == [5, 6]
        assert made.prompt_ids.dtype == np.int32


async def test_several_prompts_give_one_choice_each_with_its_index() -> None:
    server = Server()
    answer = (await server.complete(prompt=["a", [5, 6]])).json()
    assert [c["index"] for c in answer["choices"]] == [0, 1]
    assert answer["usage"] == usage(3, 6)
    streamed = events(await server.complete(prompt=["a", "b"], stream=True))
    assert streamed.pop() == "[DONE]"
    for index in (0, 1):
        texts = [c["text"] for e in streamed for c in e["choices"] if c["index"] == index]
        assert "".join(texts) == "Hello, world"
    assert len({r.request_id for r in server.generator.requests}) == 4


async def test_a_stream_has_one_chunk_per_piece_and_ends_with_done() -> None:
    streamed = events(await Server().chat(stream=True))
    assert streamed.pop() == "[DONE]"
    assert [e["choices"][0]["delta"] for e in streamed] == [
        {"role": "assistant", "content": "Hello"},
        {"content": ","},
        {"content": " world"},
    ]
    assert [e["choices"][0]["finish_reason"] for e in streamed] == [None, None, "stop"]
    assert all("usage" not in e for e in streamed)


async def test_pieces_without_text_are_not_sent_but_counted() -> None:
    """A round may end in the middle of a character, and a stop string may eat the last one's text."""
    server = Server(ScriptedGenerator(pieces=("", "a", "", "")))
    options = {"include_usage": True, "continuous_usage_stats": True}
    streamed = events(await server.chat(stream=True, stream_options=options))
    assert [c["delta"] for e in streamed[:-1] for c in e["choices"]] == [{"role": "assistant", "content": "a"}, {}]
    assert [e["usage"]["completion_tokens"] for e in streamed[:-1]] == [2, 4, 4]


async def test_usage_comes_last_with_no_choices_and_is_null_before() -> None:
    streamed = events(await Server().complete(stream=True, stream_options={"include_usage": True}))
    *pieces, last, done = streamed
    assert done == "[DONE]"
    assert [e["usage"] for e in pieces] == [None, None, None]
    assert last["choices"] == []
    assert last["usage"] == usage(2, 3)


async def test_usage_counts_the_prompt_tokens_that_the_target_reused() -> None:
    server = Server(ScriptedGenerator(stats=DecodeStats(num_emitted=3, num_cached_tokens=2)))
    assert (await server.complete()).json()["usage"] == usage(2, 3, num_cached=2)


async def test_usage_never_exceeds_what_was_emitted() -> None:
    """Usage is the generator's own count even where it is lower than the ids of its chunks (a stop string cut the last
    round)."""

    class Cut(ScriptedGenerator):
        async def generate(self, request: GenerationRequest) -> AsyncIterator[GenerationChunk]:
            yield GenerationChunk("ab", (1, 2, 3))
            yield GenerationChunk("", (4,), finish_reason="stop", stats=DecodeStats(num_emitted=3))

    answer = (await Server(Cut()).complete()).json()
    assert answer["usage"]["completion_tokens"] == 3


async def test_the_report_comes_when_asked_for_on_the_answer_or_the_last_chunk() -> None:
    server = Server()
    whole = (await server.complete(hedgespec={"report": True})).json()["hedgespec"]
    assert (whole["rounds"], whole["drafted"], whole["accepted"], whole["acceptance_rate"]) == (2, 4, 1, 0.25)
    assert (whole["mean_accepted_tokens"], whole["accepted_per_position"]) == (1.5, [1, 0])
    assert whole["weights"] == {"sql": 0.7, "ngram": 0.3}
    assert set(whole["seconds"]) == {"draft", "verify", "learn", "transport", "overhead"}
    for options in (None, {"include_usage": True}):
        streamed = events(await server.complete(stream=True, stream_options=options, hedgespec={"report": True}))
        assert ["hedgespec" in e for e in streamed[:-1]] == [False] * (len(streamed) - 2) + [True]


async def test_errors_before_the_first_token_are_http_errors_also_for_streams() -> None:
    for stream in (False, True):
        response = await Server(ScriptedGenerator(error=TargetUnavailable("at 10.0.0.7"))).complete(stream=stream)
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert response.json()["error"]["code"] == "overloaded"
        assert "10.0.0.7" not in response.text
        refused = RequestError("No.", code="unknown_drafter", param="hedgespec.drafter")
        response = await Server(ScriptedGenerator(error=refused)).complete(stream=stream)
        assert (response.status_code, response.json()["error"]["param"]) == (400, "hedgespec.drafter")


@pytest.mark.parametrize(
    ("error", "code"),
    [(TargetUnavailable("x"), "upstream_unavailable"), (ZeroDivisionError("secret"), "internal_error")],
)
async def test_errors_inside_a_stream_are_one_event_and_no_done(error: Exception, code: str) -> None:
    """A stream that ends with [DONE] is a complete answer; one that ends with an error is not."""
    streamed = events(await Server(ScriptedGenerator(error=error, error_at=1)).complete(stream=True))
    assert streamed[0]["choices"][0]["text"] == "Hello"
    assert streamed[1]["error"]["code"] == code
    assert len(streamed) == 2
    assert "secret" not in json.dumps(streamed)


async def test_unexpected_errors_say_nothing_of_our_inside() -> None:
    response = await Server(ScriptedGenerator(error=ZeroDivisionError("secret"))).complete()
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "server_error"
    assert "secret" not in response.text
    assert response.headers["x-request-id"]


async def test_a_generation_without_an_end_is_an_error_not_a_short_answer() -> None:
    class Endless(ScriptedGenerator):
        async def generate(self, request: GenerationRequest) -> AsyncIterator[GenerationChunk]:
            yield GenerationChunk("a", (1,))

    assert (await Server(Endless()).complete()).status_code == 500


async def test_a_request_that_takes_too_long_is_stopped() -> None:
    server = Server(ScriptedGenerator(delay_s=5.0), limits=LimitsConfig(request_timeout_s=0.05))
    response = await server.complete()
    assert (response.status_code, response.json()["error"]["code"]) == (504, "timeout")
    assert server.generator.num_closed == 1


async def test_silence_on_a_stream_is_bridged_by_comments() -> None:
    class Slow(ScriptedGenerator):
        async def generate(self, request: GenerationRequest) -> AsyncIterator[GenerationChunk]:
            yield GenerationChunk("a", (1,))
            await asyncio.sleep(0.1)
            yield GenerationChunk("b", (2,), finish_reason="stop", stats=DecodeStats(num_emitted=2))

    streamed = events(await Server(Slow(), keep_alive_s=0.02).complete(stream=True))
    assert ": keep-alive" in streamed
    assert streamed[-1] == "[DONE]"


async def test_a_tenant_has_a_limited_number_of_answers_in_progress() -> None:
    server = Server(ScriptedGenerator(delay_s=0.2))
    running = [asyncio.create_task(server.complete()) for _ in range(3)]
    for _ in range(100):
        await asyncio.sleep(0.005)
        if server.generator.num_open == 3:
            break
    refused = await server.complete()
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert (refused.headers["retry-after"], refused.headers["x-should-retry"]) == ("1", "true")
    assert [r.status_code for r in await asyncio.gather(*running)] == [200] * 3
    assert (await server.complete(prompt=["a", "b", "c"])).status_code == 200
    assert (await server.complete(prompt=["a", "b", "c", "d"])).status_code == 429


async def test_slots_and_gauges_are_free_again_after_every_kind_of_end() -> None:
    limits = LimitsConfig(max_concurrent_per_tenant=1)
    for error in (None, TargetUnavailable("x"), ZeroDivisionError()):
        for error_at in (0, 1):
            for stream in (False, True):
                server = Server(ScriptedGenerator(error=error, error_at=error_at), limits=limits)
                for _ in range(3):
                    assert (await server.complete(stream=stream)).status_code != 429
                assert (server.generator.num_closed, server.generator.num_open) == (3, 0)
                assert 'hedgespec_requests_running{replica="0"} 0.0' in server.metrics.render().decode()


async def test_neither_prompts_nor_keys_nor_answers_get_into_the_log() -> None:
    """A generator that fails with an exception that quotes them does not get them there either."""
    canary, log = "zq-canary-zq", io.StringIO()
    configure_logging("json", stream=log)
    try:
        for error in (None, ZeroDivisionError(canary), TargetUnavailable(canary)):
            for error_at in (0, 1):
                server = Server(ScriptedGenerator(pieces=(canary, canary), error=error, error_at=error_at))
                server.client.headers["Authorization"] = f"Bearer {canary}"
                for stream in (False, True):
                    await server.complete(prompt=canary, stop=[canary], user=canary, stream=stream)
                    await server.chat(messages=[{"role": canary, "content": canary}], stream=stream)
                await server.client.get(f"/{canary}?q={canary}")
    finally:
        structlog.reset_defaults()
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert {"http_request", "internal_error", "stream_failed"} <= {line["event"] for line in lines}
    assert not [line for line in lines if "dropped_fields" in line]
    assert canary not in log.getvalue()
