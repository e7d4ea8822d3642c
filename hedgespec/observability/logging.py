"""Logs are structured and keep only allowed fields: a prompt, an answer or a key cannot get into them by mistake."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import structlog

LogFormat = Literal["json", "console"]

ALLOWED_FIELDS = frozenset(
    {
        *("event", "level", "logger", "timestamp", "request_id", "tenant", "scope", "replica", "endpoint", "status"),
        *("code", "param", "seconds", "ttft_s", "prompt_tokens", "completion_tokens", "finish_reason", "client_gone"),
        *("drafter", "drafter_id", "drafted", "accepted", "rounds", "round_index", "draft_s", "verify_s", "learn_s"),
        *("weights", "losses", "operation", "reason", "attempt", "count", "address", "port", "path", "device", "error"),
        *("frames", "dropped_fields"),
    }
)
"""`error` is an exception's type; its message may quote input and is never logged."""


def configure_logging(form: LogFormat = "console", level: str = "INFO", stream: TextIO | None = None) -> None:
    """Set up structlog for this process. Call it once, before the first log line."""
    renderer: Any = (
        structlog.processors.JSONRenderer(sort_keys=True)
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=(stream or sys.stderr).isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            replace_exception,
            keep_allowed_fields,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )


def keep_allowed_fields(_: Any, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop every field that is not on the list, and say how many were dropped."""
    dropped = [name for name in fields if name not in ALLOWED_FIELDS]
    for name in dropped:
        del fields[name]
    if dropped:
        fields["dropped_fields"] = len(dropped)
    return fields


def replace_exception(_: Any, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Turn exc_info into the exception's type and where it was raised; messages and source lines stay out."""
    info = fields.pop("exc_info", None)
    error = sys.exc_info()[1] if info is True else info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        fields.update(failure_fields(error))
    return fields


def failure_fields(error: BaseException) -> dict[str, Any]:
    """Return an exception as log fields. Better than exc_info, which structlog renders with every local variable until
    `configure_logging` has run."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    lines = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return {"error": type(error).__name__, "frames": lines}
