"""`ApiContext` holds what every endpoint needs and takes requests in, at most so many per tenant at a time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TypeVar

from starlette.requests import Request

from hedgespec.api.body import read_json_object
from hedgespec.api.schemas import ChatBody, CompletionBody, DetokenizeBody, TokenizeBody
from hedgespec.api.validation import Neutral, parse_body
from hedgespec.config import LimitsConfig
from hedgespec.errors import RequestError
from hedgespec.observability.metrics import Metrics
from hedgespec.protocols import Generator
from hedgespec.tenancy.tenants import Tenants
from hedgespec.tokenization import Tokenizer

Body = TypeVar("Body", CompletionBody, ChatBody, TokenizeBody, DetokenizeBody)

_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Admission:
    """Bounds how many answers a tenant may have in progress on this router; tenants without any take no memory."""

    def __init__(self, max_concurrent: int) -> None:
        self._max_concurrent = max_concurrent
        self._running: Counter[str] = Counter()

    @contextmanager
    def admit(self, tenant: str, num_answers: int) -> Iterator[None]:
        """Count the answers while the context is open. Raises RequestError 429 when they would be too many."""
        if self._running[tenant] + num_answers > self._max_concurrent:
            self._forget_idle(tenant)
            raise RequestError(
                f"Too many requests at once: the limit is {self._max_concurrent} answers. Try again shortly.",
                status=429,
                code="rate_limit_exceeded",
                type="rate_limit_error",
                headers={"Retry-After": "1"},
            )
        self._running[tenant] += num_answers
        try:
            yield
        finally:
            self._running[tenant] -= num_answers
            self._forget_idle(tenant)

    def _forget_idle(self, tenant: str) -> None:
        if self._running[tenant] == 0:
            del self._running[tenant]


@dataclass(frozen=True, slots=True)
class ApiContext:
    """Parts of the application, made once, and the checks that every endpoint begins with.

    now: Unix seconds, for `created`. keep_alive_s: silence on a stream after which a comment line is sent.
    encoding: bounds how many prompts are tokenized at a time, in threads.
    """

    generator: Generator
    tokenizer: Tokenizer
    tenants: Tenants
    metrics: Metrics
    limits: LimitsConfig
    admission: Admission
    model_name: str
    is_ready: Callable[[], bool]
    version: str
    now: Callable[[], float]
    created: int
    keep_alive_s: float
    encoding: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))

    def authenticate(self, request: Request) -> str:
        """Return the tenant id. Raises RequestError 401."""
        tenant = self.tenants.authenticate(request.headers.get("authorization"), is_from_this_machine(request))
        request.state.tenant = tenant
        return tenant

    async def accept(self, request: Request, schema: type[Body], unsupported: Neutral) -> tuple[str, Body]:
        """Return the tenant id and the checked body of a POST.

        unsupported: as in `parse_body`. Raises RequestError 400, 401, 404, 408, 413 or 415.
        """
        tenant = self.authenticate(request)
        body = parse_body(await read_json_object(request, self.limits.max_body_bytes), schema, unsupported)
        self.check_model(body.model)
        return tenant, body

    def check_model(self, name: str | None) -> None:
        """Raise RequestError 404 for a model that is not served here; None is the one that is."""
        if name is not None and name != self.model_name:
            raise RequestError(
                f"This server has no such model, only {self.model_name}.",
                status=404,
                code="model_not_found",
                param="model",
            )


def is_from_this_machine(request: Request) -> bool:
    """Return whether a program on this machine asks directly.

    The Host header must be local as well: a web page whose name was rebound to 127.0.0.1 reaches loopback ports from
    the owner's browser, but under its own name. A forwarded request comes from any client of the proxy.
    """
    if request.client is None or "x-forwarded-for" in request.headers or "forwarded" in request.headers:
        return False
    try:
        is_loopback = ip_address(request.client.host).is_loopback
    except ValueError:
        return False
    name, colon, port = request.headers.get("host", "").rpartition(":")
    host = name if colon and port.isdigit() else request.headers.get("host", "")
    return is_loopback and host.lower() in _LOCAL_NAMES
