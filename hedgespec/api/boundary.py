"""The boundary is the outermost layer: it gives a request its id, limits headers, logs and counts one line, and lets no
exception out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hedgespec.api.errors import as_request_error, error_response
from hedgespec.api.sse import CLIENT_GONE
from hedgespec.errors import RequestError
from hedgespec.observability.logging import failure_fields
from hedgespec.observability.metrics import Metrics

MAX_HEADERS = 64
MAX_HEADER_BYTES = 16 << 10

_log = structlog.get_logger("hedgespec.api")


class Boundary:
    """ASGI middleware. A client's own X-Request-Id is never used: ids of ours are unique, theirs need not be."""

    def __init__(self, app: ASGIApp, metrics: Metrics, new_request_id: Callable[[], str]) -> None:
        self._app = app
        self._metrics = metrics
        self._new_request_id = new_request_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        state: dict[str, Any] = scope.setdefault("state", {})
        request_id = state["request_id"] = self._new_request_id()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        try:
            if _headers_too_large(scope):
                error = RequestError("The request headers are too large.", status=431, code="headers_too_large")
                await error_response(error)(scope, receive, send_with_id)
            else:
                await self._app(scope, receive, send_with_id)
        except Exception as error:
            _log.error("internal_error", request_id=request_id, **failure_fields(error))
            if status:
                raise  # the answer has begun: the server cuts the connection, which a client cannot mistake for an end
            await error_response(as_request_error(error))(scope, receive, send_with_id)
        finally:
            self._record(scope, state, status or CLIENT_GONE, time.perf_counter() - started)

    def _record(self, scope: Scope, state: dict[str, Any], status: int, seconds: float) -> None:
        endpoint = getattr(scope.get("route"), "path", "other")
        self._metrics.observe_http(endpoint, status)
        _log.info(
            "http_request",
            request_id=state["request_id"],
            tenant=state.get("tenant"),
            endpoint=endpoint,
            status=status,
            seconds=round(seconds, 6),
        )


def _headers_too_large(scope: Scope) -> bool:
    headers = scope["headers"]
    return len(headers) > MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES
