"""Request bodies are bounded in size, time and depth, and JSON in the strict sense."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable
from itertools import accumulate
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from hedgespec.errors import RequestError

BODY_TIMEOUT_S = 10.0
MAX_DEPTH = 32

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SUSPICIOUS = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


async def read_json_object(request: Request, max_bytes: int) -> dict[str, Any]:
    """Return the object that the body holds. Raises RequestError 408, 413, 415, or 400 `invalid_json`."""
    _check_content_type(request)
    body = await _read(request, max_bytes)
    content = _parse(body)
    if not isinstance(content, dict):
        raise _invalid_json("The body must be a JSON object.")
    return content


def _check_content_type(request: Request) -> None:
    # Insisting on JSON also keeps other sites' web pages out: a browser asks first before it sends this type.
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.lower().replace('"', "").replace(" ", "")
    if kind.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        raise RequestError("Send 'Content-Type: application/json'.", status=415, code="unsupported_media_type")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestError("Send the body uncompressed.", status=415, code="unsupported_media_type")


async def _read(request: Request, max_bytes: int) -> bytes:
    stated = request.headers.get("content-length", "0")
    if not stated.isdigit() or int(stated[:20]) > max_bytes:
        raise _too_large(max_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for part in request.stream():
                body += part
                if len(body) > max_bytes:
                    raise _too_large(max_bytes)
    except TimeoutError:
        raise RequestError(
            "The body took too long to arrive.", status=408, code="timeout", headers={"Connection": "close"}
        ) from None
    except ClientDisconnect:
        raise RequestError("The body is incomplete.", code="invalid_json") from None
    return bytes(body)


def _parse(body: bytes) -> Any:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _invalid_json(f"The body is not valid UTF-8 (byte {error.start}).") from None
    if _depth(body) > MAX_DEPTH:
        raise _invalid_json(f"The body is nested deeper than {MAX_DEPTH} levels.")
    try:
        content = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise _invalid_json(f"The body is not valid JSON (line {error.lineno}, column {error.colno}).") from None
    except ValueError:  # a whole number of thousands of digits
        raise _invalid_json("The body holds a number that is too long.") from None
    if _SUSPICIOUS.search(body):
        _check_characters(content)
    return content


def _depth(body: bytes) -> int:
    brackets = _STRING.sub(b"", body).translate(None, _NOT_BRACKETS)
    return max(accumulate(1 if b in b"[{" else -1 for b in brackets), default=0)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise _invalid_json("The body has an object with a repeated key.")
    return content


def _refuse_constant(_: str) -> NoReturn:
    raise _invalid_json("The body holds NaN or Infinity, which JSON does not have.")


def _check_characters(content: Any) -> None:
    """Refuse what no text can hold: halves of surrogate pairs, and NUL."""
    for text in _strings(content):
        if "\x00" in text or any("\ud800" <= c <= "\udfff" for c in text):
            raise _invalid_json("The body has a string with a NUL or half a surrogate pair.")


def _strings(content: Any) -> Iterable[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for key, value in content.items():
            yield key
            yield from _strings(value)
    elif isinstance(content, list):
        for value in content:
            yield from _strings(value)


def _invalid_json(message: str) -> RequestError:
    return RequestError(message, code="invalid_json")


def _too_large(max_bytes: int) -> RequestError:
    return RequestError(
        f"The body is larger than {max_bytes} bytes.",
        status=413,
        code="request_too_large",
        headers={"Connection": "close"},
    )
