"""Every bad input gets an OpenAI error object that names the field and never repeats the value."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hedgespec.api import body as body_module
from hedgespec.api.app import ROUTES, create_app
from hedgespec.api.validation import NEUTRAL_IN_CHAT, NEUTRAL_IN_COMPLETIONS
from hedgespec.catalogue import SAMPLING_PARAMETERS
from hedgespec.config import LimitsConfig
from hedgespec.observability.metrics import Metrics
from hedgespec.tenancy.keys import mint_key
from hedgespec.tenancy.tenants import Tenants
from tests.scripted_generator import ScriptedGenerator, byte_tokenizer

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
JSON = {"Content-Type": "application/json"}
SECRET, HASH = mint_key()
CANARY = "zq-canary-zq"


def make_client(tenants: Tenants | None = None, peer: str = "127.0.0.1", **options: Any) -> httpx.AsyncClient:
    settings_: dict[str, Any] = {"limits": LimitsConfig(), "version": "1.2.3", **options}
    app = create_app(
        ScriptedGenerator(),
        byte_tokenizer(max_model_len=128),
        tenants or Tenants(None),
        Metrics("m", ("sql",)),
        model_name="m",
        **settings_,
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(peer, 1))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


def check_error(response: httpx.Response, status: int, code: str, param: str | None = None) -> None:
    assert response.status_code == status, response.text
    content = response.json()
    assert set(content) == {"error"}
    error = content["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param), error
    assert error["message"].endswith((".", "log."))
    assert response.headers["x-request-id"]
    assert response.headers["x-should-retry"] in ("true", "false")


async def post(path: str = COMPLETIONS, **body: Any) -> httpx.Response:
    content = {"model": "m", **({"messages": [{"role": "user", "content": "x"}]} if path == CHAT else {"prompt": "x"})}
    return await make_client().post(path, json={**content, **body})


BAD_VALUES: list[tuple[dict[str, Any], str, str]] = [
    ({"prompt": ""}, "invalid_value", "prompt"),
    ({"prompt": []}, "invalid_value", "prompt"),
    ({"prompt": [[]]}, "invalid_value", "prompt"),
    ({"prompt": ["a", ""]}, "invalid_value", "prompt"),
    ({"prompt": ["a"] * 17}, "invalid_value", "prompt"),
    ({"prompt": {"a": 1}}, "invalid_type", "prompt"),
    ({"prompt": None}, "missing_required_parameter", "prompt"),
    ({"prompt": ["a", {}]}, "invalid_type", "prompt[1]"),
    ({"prompt": [1, "a"]}, "invalid_type", "prompt"),
    ({"prompt": [True]}, "invalid_type", "prompt"),
    ({"prompt": [1.0]}, "invalid_type", "prompt"),
    ({"prompt": [-1]}, "invalid_value", "prompt"),
    ({"prompt": [[1], [257]]}, "invalid_value", "prompt[1]"),
    ({"prompt": [2**70]}, "invalid_value", "prompt"),
    ({"prompt": [1] * 129}, "context_length_exceeded", "prompt"),
    ({"prompt": "x" * 9000}, "context_length_exceeded", "prompt"),
    ({"max_tokens": 0}, "invalid_value", "max_tokens"),
    ({"max_tokens": 4097}, "invalid_value", "max_tokens"),
    ({"max_tokens": True}, "invalid_type", "max_tokens"),
    ({"max_tokens": 1.5}, "invalid_type", "max_tokens"),
    ({"max_tokens": "5"}, "invalid_type", "max_tokens"),
    ({"temperature": -0.1}, "invalid_value", "temperature"),
    ({"temperature": 2.1}, "invalid_value", "temperature"),
    ({"temperature": True}, "invalid_type", "temperature"),
    ({"temperature": 10**400}, "invalid_type", "temperature"),
    ({"top_p": 0}, "invalid_value", "top_p"),
    ({"top_p": 1.01}, "invalid_value", "top_p"),
    ({"top_k": -2}, "invalid_value", "top_k"),
    ({"presence_penalty": 2.5}, "invalid_value", "presence_penalty"),
    ({"frequency_penalty": -2.5}, "invalid_value", "frequency_penalty"),
    ({"repetition_penalty": 0}, "invalid_value", "repetition_penalty"),
    ({"seed": 2**63}, "invalid_value", "seed"),
    ({"seed": 1.0}, "invalid_type", "seed"),
    ({"stop": ["a"] * 5}, "invalid_value", "stop"),
    ({"stop": ""}, "invalid_value", "stop"),
    ({"stop": ["x" * 65]}, "invalid_value", "stop"),
    ({"stop": [1]}, "invalid_type", "stop[0]"),
    ({"stop": 1}, "invalid_type", "stop"),
    ({"stop_token_ids": [257]}, "invalid_value", "stop_token_ids"),
    ({"stop_token_ids": [0] * 65}, "invalid_value", "stop_token_ids"),
    ({"logit_bias": {"257": 1}}, "invalid_value", "logit_bias"),
    ({"logit_bias": {"x": 1}}, "invalid_value", "logit_bias"),
    ({"logit_bias": {"01": 1}}, "invalid_value", "logit_bias"),
    ({"logit_bias": {"1": 101}}, "invalid_value", "logit_bias"),
    ({"logit_bias": {"1": "a"}}, "invalid_type", "logit_bias"),
    ({"logit_bias": {str(i): 1 for i in range(301)}}, "invalid_value", "logit_bias"),
    ({"user": "x" * 129}, "invalid_value", "user"),
    ({"metadata": {str(i): "x" for i in range(17)}}, "invalid_value", "metadata"),
    ({"metadata": {"a": 1}}, "invalid_type", "metadata"),
    ({"stream": 1}, "invalid_type", "stream"),
    ({"stream_options": {"include_usage": True}}, "invalid_value", "stream_options"),
    ({"stream": True, "stream_options": {"x": 1}}, "unknown_parameter", "stream_options.x"),
    ({"hedgespec": {"drafters": "sql"}}, "unknown_parameter", "hedgespec.drafters"),
    ({"hedgespec": {"max_draft_tokens": 17}}, "invalid_value", "hedgespec.max_draft_tokens"),
    ({"hedgespec": {"scope": "a/b"}}, "invalid_value", "hedgespec.scope"),
    ({"hedgespec": {"report": 1}}, "invalid_type", "hedgespec.report"),
    ({"hedgespec": {"report": True}, "prompt": ["a", "b"]}, "invalid_value", "hedgespec.report"),
    ({"model": 5}, "invalid_type", "model"),
    ({"model": None}, "missing_required_parameter", "model"),
    ({"temprature": 1}, "unknown_parameter", "temprature"),
    ({"temprature": None}, "unknown_parameter", "temprature"),
    ({"n": 2}, "unsupported_parameter", "n"),
    ({"n": True}, "unsupported_parameter", "n"),
    ({"best_of": 2}, "unsupported_parameter", "best_of"),
    ({"logprobs": 0}, "unsupported_parameter", "logprobs"),
    ({"echo": True}, "unsupported_parameter", "echo"),
    ({"suffix": "x"}, "unsupported_parameter", "suffix"),
]


@pytest.mark.parametrize(("body", "code", "param"), BAD_VALUES, ids=lambda v: str(v)[:40])
async def test_a_bad_parameter_is_a_400_that_names_it(body: dict[str, Any], code: str, param: str) -> None:
    check_error(await post(**body), 400, code, param)


BAD_CHATS: list[tuple[dict[str, Any], str, str]] = [
    ({"messages": []}, "invalid_value", "messages"),
    ({"messages": "x"}, "invalid_type", "messages"),
    ({"messages": [5]}, "invalid_type", "messages[0]"),
    ({"messages": [{"role": "user", "content": "x"}] * 257}, "invalid_value", "messages"),
    ({"messages": [{"role": "king", "content": "x"}]}, "invalid_value", "messages[0].role"),
    ({"messages": [{"content": "x"}]}, "invalid_value", "messages[0].role"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "unsupported_parameter", "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "invalid_type", "messages[0].content"),
    ({"messages": [{"role": "user", "content": []}]}, "invalid_type", "messages[0].content"),
    ({"messages": [{"role": "user", "content": ["x"]}]}, "invalid_type", "messages[0].content[0]"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        "unsupported_parameter",
        "messages[0].content[0].type",
    ),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "invalid_value", "messages[0].content[0]"),
    ({"messages": [{"role": "user", "content": "x", "name": "n"}]}, "unsupported_parameter", "messages[0].name"),
    ({"messages": [{"role": "user", "content": "x", "nme": "n"}]}, "unknown_parameter", "messages[0].nme"),
    (
        {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]},
        "unsupported_parameter",
        "messages[0].tool_calls",
    ),
    ({"messages": [{"role": "user", "content": "x" * 9000}]}, "context_length_exceeded", "messages"),
    ({"max_tokens": 1, "max_completion_tokens": 1}, "invalid_value", "max_completion_tokens"),
    ({"max_completion_tokens": 0}, "invalid_value", "max_completion_tokens"),
    ({"prompt": "x"}, "unknown_parameter", "prompt"),
    ({"tools": [{"type": "function"}]}, "unsupported_parameter", "tools"),
    ({"response_format": {"type": "json_object"}}, "unsupported_parameter", "response_format"),
    ({"logprobs": True}, "unsupported_parameter", "logprobs"),
    ({"top_logprobs": 5}, "unsupported_parameter", "top_logprobs"),
    ({"store": True}, "unsupported_parameter", "store"),
    ({"audio": {"voice": "x"}}, "unsupported_parameter", "audio"),
]


@pytest.mark.parametrize(("body", "code", "param"), BAD_CHATS, ids=lambda v: str(v)[:40])
async def test_a_bad_chat_is_a_400_that_names_what_is_wrong(body: dict[str, Any], code: str, param: str) -> None:
    check_error(await post(CHAT, **body), 400, code, param)


@pytest.mark.parametrize(("path", "table"), [(COMPLETIONS, NEUTRAL_IN_COMPLETIONS), (CHAT, NEUTRAL_IN_CHAT)])
async def test_every_neutral_value_is_accepted_and_any_other_is_refused(path: str, table: dict[str, Any]) -> None:
    """A name in the table that has become a sampling parameter is supported, whatever the table says."""
    table = {name: values for name, values in table.items() if name not in SAMPLING_PARAMETERS}
    everything: dict[str, Any] = {name: values[0] if values else None for name, values in table.items()}
    assert (await post(path, **everything)).status_code == 200
    assert (await post(path, **dict.fromkeys(table))).status_code == 200
    for name in table:
        check_error(await post(path, **{name: CANARY}), 400, "unsupported_parameter", name)


async def test_the_error_for_a_prompt_that_is_too_long_names_the_limit() -> None:
    """The prompt is refused without being tokenized whole; one that nearly fits is left for the router to refuse."""
    message = (await post(prompt="x" * 9000)).json()["error"]["message"]
    assert "context is 128 tokens; prompt alone has more" in message


BAD_BODIES: list[tuple[bytes, str]] = [
    (b"", "invalid_json"),
    (b"{", "invalid_json"),
    (b"[]", "invalid_json"),
    (b'"x"', "invalid_json"),
    (b"\xff\xfe", "invalid_json"),
    (b'{"a": 1, "a": 2}', "invalid_json"),
    (b'{"hedgespec": {"report": true, "report": false}}', "invalid_json"),
    (b'{"temperature": NaN}', "invalid_json"),
    (b'{"temperature": -Infinity}', "invalid_json"),
    (b'{"temperature": 1' + b"0" * 5000 + b"}", "invalid_json"),
    (b'{"prompt": "\\ud800"}', "invalid_json"),
    (b'{"prompt": "\\u0000"}', "invalid_json"),
    (b'{"\\udfff": 1}', "invalid_json"),
    (b'{"prompt": "a\x00b"}', "invalid_json"),
    (b'{"a":' * 33 + b"1" + b"}" * 33, "invalid_json"),
    (b"[" * 100_000, "invalid_json"),
    (b'{"a":"' + b"\\" * 99_999, "invalid_json"),
]


@pytest.mark.parametrize(("body", "code"), BAD_BODIES, ids=lambda v: str(v)[:40])
async def test_what_is_not_strict_json_is_refused(body: bytes, code: str) -> None:
    for path in (COMPLETIONS, CHAT, "/tokenize", "/detokenize"):
        check_error(await make_client().post(path, content=body, headers=JSON), 400, code)


async def test_overflowing_and_infinite_numbers_are_refused() -> None:
    for number in (b"1e999", b"-1e999"):
        content = b'{"model": "m", "prompt": "x", "temperature": ' + number + b"}"
        check_error(
            await make_client().post(COMPLETIONS, content=content, headers=JSON), 400, "invalid_value", "temperature"
        )


async def test_escapes_that_only_look_dangerous_are_fine() -> None:
    r"""A pair of surrogates is one character, and `\\u0000` is a backslash and text."""
    for text in ('"\\ud83d\\ude00"', '"\\\\u0000"', '"\\\\\\\\ud800"', '"[[[[{{{{\\"[[["'):
        content = f'{{"model": "m", "prompt": {text}}}'
        assert (await make_client().post(COMPLETIONS, content=content, headers=JSON)).status_code == 200


async def test_a_large_body_is_refused_with_and_without_a_stated_length() -> None:
    sent = []

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            sent.append(1)
            yield b" " * 1024

    client = make_client(limits=LimitsConfig(max_body_bytes=2048))
    for content in (b" " * 2049, chunks()):
        response = await client.post(COMPLETIONS, content=content, headers=JSON)
        check_error(response, 413, "request_too_large")
        assert response.headers["connection"] == "close"
    assert len(sent) < 10
    lying = await client.post(COMPLETIONS, content=b"{}", headers={**JSON, "Content-Length": "x"})
    check_error(lying, 413, "request_too_large")


async def test_a_body_that_does_not_arrive_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def dripping() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.01)

    monkeypatch.setattr(body_module, "BODY_TIMEOUT_S", 0.05)
    response = await make_client().post(COMPLETIONS, content=dripping(), headers=JSON)
    check_error(response, 408, "timeout")
    assert response.headers["connection"] == "close"


async def test_only_uncompressed_json_is_accepted() -> None:
    wrong = [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin-1",
        "multipart/form-data",
    ]
    for kind in wrong:
        response = await make_client().post(COMPLETIONS, content=b"{}", headers={"Content-Type": kind})
        check_error(response, 415, "unsupported_media_type")
    response = await make_client().post(COMPLETIONS, content=b"{}", headers={**JSON, "Content-Encoding": "gzip"})
    check_error(response, 415, "unsupported_media_type")
    good = {"Content-Type": 'application/json; charset="UTF-8"'}
    content = b'{"model": "m", "prompt": "x"}'
    assert (await make_client().post(COMPLETIONS, content=content, headers=good)).status_code == 200


async def test_wrong_paths_and_methods_get_the_same_form() -> None:
    client = make_client()
    for path in ("/", "/v1", "/docs", "/openapi.json", "/v1/completions/", "/v1/embeddings", "/../etc/passwd", "/%00"):
        check_error(await client.get(path), 404, "not_found")
    for method, path, _ in ROUTES:
        path = path.replace("{model_id:path}", "m")
        wrong = "GET" if method == "POST" else "POST"
        response = await client.request(wrong, path)
        check_error(response, 405, "method_not_allowed")
        assert response.headers["allow"] == method
        for strange in ("OPTIONS", "TRACE", "DELETE", "BREW"):
            check_error(await client.request(strange, path), 405, "method_not_allowed")


async def test_an_unknown_model_is_a_404_on_every_endpoint() -> None:
    client = make_client()
    check_error(await post(model=CANARY), 404, "model_not_found", "model")
    check_error(await post(CHAT, model=CANARY), 404, "model_not_found", "model")
    check_error(await client.get(f"/v1/models/{CANARY}"), 404, "model_not_found", "model")
    check_error(await client.post("/tokenize", json={"model": CANARY, "prompt": "x"}), 404, "model_not_found", "model")
    check_error(await client.post("/detokenize", json={"model": CANARY, "tokens": []}), 404, "model_not_found", "model")


async def test_headers_that_are_too_large_or_too_many_are_refused() -> None:
    client = make_client()
    check_error(await client.get("/health", headers={"x-a": "a" * (17 << 10)}), 431, "headers_too_large")
    check_error(await client.get("/health", headers={f"x-{i}": "a" for i in range(70)}), 431, "headers_too_large")


async def test_with_a_keys_file_every_endpoint_but_the_open_ones_needs_a_key() -> None:
    client = make_client(Tenants({HASH: "acme"}))
    open_paths = {"/health", "/version", "/metrics"}
    for method, path, _ in ROUTES:
        response = await client.request(
            method, path.replace("{model_id:path}", "m"), json={} if method == "POST" else None
        )
        if path in open_paths:
            assert response.status_code == 200
        else:
            check_error(response, 401, "invalid_api_key")
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.headers["x-should-retry"] == "false"
    assert (await client.get("/v1/models", headers={"Authorization": f"Bearer {SECRET}"})).status_code == 200


async def test_without_keys_only_direct_requests_from_this_machine_are_served() -> None:
    """No other machine is served, nor a proxy's clients, nor a web page under a name that was rebound to 127.0.0.1."""
    assert (await make_client().get("/v1/models")).status_code == 200
    assert (await make_client(peer="::1").get("/v1/models", headers={"Host": "[::1]:8000"})).status_code == 200
    check_error(await make_client(peer="10.0.0.9").get("/v1/models"), 401, "invalid_api_key")
    for headers in (
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=1"},
        {"Host": "evil.example:8000"},
        {"Host": ""},
    ):
        check_error(await make_client().get("/v1/models", headers=headers), 401, "invalid_api_key")


async def test_a_clients_request_id_is_never_used() -> None:
    client, ids = make_client(), set()
    for _ in range(2):
        response = await client.get("/health", headers={"X-Request-Id": "mine"})
        ids.add(response.headers["x-request-id"])
    assert len(ids) == 2
    assert "mine" not in ids


async def test_errors_never_repeat_what_the_client_sent() -> None:
    """The marker is in every string of the request, in one wrong field at a time."""
    bodies: list[dict[str, Any]] = [
        {"model": CANARY}, {"temperature": CANARY}, {"stop": [CANARY * 9]}, {"logit_bias": {CANARY: 1}},
        {"metadata": {CANARY: 1}},
        {"metadata": {"a": CANARY * 99}}, {"n": CANARY}, {"hedgespec": {"drafter": CANARY * 9}},
        {"hedgespec": {"scope": CANARY + "/"}},
        {"user": CANARY * 99}, {"prompt": CANARY * 999}, {"prompt": [1, CANARY]}, {"suffix": CANARY},
    ]  # fmt: skip
    for body in bodies:
        response = await post(**{"prompt": CANARY, **body})
        assert response.status_code in (400, 404)
        assert CANARY not in response.text
    chats = [[{"role": CANARY, "content": CANARY}], [{"role": "user", "content": [{"type": CANARY, "text": CANARY}]}]]
    for messages in chats:
        assert CANARY not in (await post(CHAT, messages=messages)).text
    assert CANARY not in (await make_client().post(COMPLETIONS, content=f'{{"{CANARY}', headers=JSON)).text


async def test_the_name_of_an_unknown_parameter_is_made_harmless() -> None:
    error = (await post(**{'<b>"\n' + "x" * 200: 1})).json()["error"]
    assert error["param"] == "?b???" + "x" * 59


CLIENT = make_client()  # for the property tests: an application per example would be most of their time
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(max_size=8), v, max_size=4), max_leaves=12
)
NAMES = sorted(
    {*NEUTRAL_IN_CHAT, *NEUTRAL_IN_COMPLETIONS, "model", "prompt", "messages", "temperature", "top_p", "top_k", "seed"}
)
NAMES += ["stop", "stop_token_ids", "logit_bias", "max_tokens", "max_completion_tokens", "stream", "stream_options"]
NAMES += ["metadata", "user", "hedgespec", "ignore_eos", "presence_penalty", "tokens", "add_special_tokens"]


@given(
    path=st.sampled_from([COMPLETIONS, CHAT, "/tokenize", "/detokenize"]),
    body=st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), values, max_size=5),
    is_complete=st.booleans(),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
async def test_no_json_body_makes_the_server_fail(path: str, body: dict[str, Any], is_complete: bool) -> None:
    """Every body is answered, or refused with an error object of the right form."""
    complete = {"model": "m", "prompt": "x", "messages": [{"role": "user", "content": "x"}], "tokens": [1]}
    needed = {COMPLETIONS: ["model", "prompt"], CHAT: ["model", "messages"], "/tokenize": ["prompt"]}.get(
        path, ["tokens"]
    )
    if is_complete:
        body = {name: complete[name] for name in needed} | body
    content = json.dumps(body).encode()
    response = await CLIENT.post(path, content=content, headers=JSON)
    assert response.status_code < 500
    if response.status_code != 200:
        check_error(response, response.status_code, response.json()["error"]["code"], response.json()["error"]["param"])


@given(content=st.binary(max_size=40) | st.text(alphabet='{}[]",:\\u0d8 1e', max_size=40).map(str.encode))
@settings(max_examples=100, deadline=None)
async def test_no_bytes_make_the_server_fail(content: bytes) -> None:
    response = await CLIENT.post(COMPLETIONS, content=content, headers=JSON)
    assert response.status_code == 400
