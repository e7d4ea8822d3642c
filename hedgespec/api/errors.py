"""Every error becomes OpenAI's error object."""

from __future__ import annotations

import re
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from hedgespec.errors import ReplicaBusy, ReplicaLost, RequestError, TargetUnavailable

_RETRYABLE = frozenset({408, 429, 500, 503})
_ROUTING_ERRORS = {
    404: ("There is no such path. The API is under /v1.", "not_found"),
    405: ("This path does not support this method.", "method_not_allowed"),
}


def error_object(error: RequestError) -> dict[str, Any]:
    return {"error": {"message": str(error), "type": error.type, "param": error.param, "code": error.code}}


def error_response(error: RequestError) -> JSONResponse:
    # Clients retry 408, 429 and 5xx by themselves, so what can never succeed has to say so.
    retry = "true" if error.status in _RETRYABLE else "false"
    return JSONResponse(error_object(error), error.status, {"x-should-retry": retry, **error.headers})


def as_request_error(error: Exception) -> RequestError:
    """Return what a client may know about any exception: of an unexpected one, nothing of our inside."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, TargetUnavailable | ReplicaBusy | ReplicaLost):
        return unavailable("No model replica could serve the request in time. Try again shortly.", "overloaded")
    if isinstance(error, HTTPException) and error.status_code in _ROUTING_ERRORS:
        message, code = _ROUTING_ERRORS[error.status_code]
        return RequestError(message, status=error.status_code, code=code, headers=dict(error.headers or {}))
    return RequestError(
        "The server had an internal error; X-Request-Id identifies it in the log.",
        status=500,
        code="internal_error",
        type="server_error",
    )


def unavailable(message: str, code: str) -> RequestError:
    """Return the 503 that tells a client to try again in a second."""
    return RequestError(message, status=503, code=code, type="service_unavailable_error", headers={"Retry-After": "1"})


def wrong_value(param: str, what: str, code: str = "invalid_value") -> RequestError:
    """Return the 400 for a parameter's value. what: the rule that it breaks; the value itself is never repeated."""
    return RequestError(f"Wrong value for {param}: {what}.", code=code, param=param)


def timed_out(seconds: float) -> RequestError:
    return RequestError(
        f"The answer took longer than the limit of {seconds:g} seconds. Ask for fewer tokens.",
        status=504,
        code="timeout",
        type="timeout_error",
    )


def shown_name(name: object) -> str:
    """Make a client's own parameter name short and harmless enough to be repeated in a message."""
    return re.sub(r"[^A-Za-z0-9_.-]", "?", str(name))[:64]
