"""Admission bounds how many answers a tenant may have in progress on this router."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from hedgespec.errors import RequestError

RETRY_AFTER_S = 1


class Admission:
    """Counts running answers per tenant; tenants without any take no memory."""

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
                headers={"Retry-After": str(RETRY_AFTER_S)},
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
