"""What every endpoint needs, made once per application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address

from starlette.requests import Request

from hedgespec.api.admission import Admission
from hedgespec.config import LimitsConfig
from hedgespec.observability.metrics import Metrics
from hedgespec.protocols import Generator
from hedgespec.tenancy.tenants import Tenants
from hedgespec.tokenization import Tokenizer

_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True, slots=True)
class ApiContext:
    """now: Unix seconds, for `created`. keep_alive_s: silence on a stream after which a comment line is sent.

    encoding: at most so many prompts are tokenized at a time, in threads.
    """

    generator: Generator
    tokenizer: Tokenizer
    tenants: Tenants
    metrics: Metrics
    limits: LimitsConfig
    admission: Admission
    model_name: str
    drafter_ids: tuple[str, ...]
    is_ready: Callable[[], bool]
    version: str
    now: Callable[[], float]
    created: int
    keep_alive_s: float
    encoding: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))

    def authenticate(self, request: Request) -> str:
        """-> tenant id. Raises RequestError 401."""
        tenant = self.tenants.authenticate(request.headers.get("authorization"), is_from_this_machine(request))
        request.state.tenant = tenant
        return tenant


def is_from_this_machine(request: Request) -> bool:
    """Whether a program on this machine asks directly.

    The Host header must be local as well: a web page whose name was rebound to 127.0.0.1 reaches loopback ports from
    the owner's browser, but under its own name. A forwarded request comes from whoever the proxy serves.
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
