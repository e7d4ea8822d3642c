"""Events are what the router reports while it serves; `observability.metrics.Metrics` counts them."""

from __future__ import annotations

from typing import Protocol

from hedgespec.types import DecodeStats, FinishReason, RoundReport


class Events(Protocol):
    """Receives what happens to rounds, requests and drafters."""

    def observe_round(self, report: RoundReport) -> None: ...

    def observe_request(
        self, stats: DecodeStats, finish_reason: FinishReason, seconds: float, ttft_s: float
    ) -> None: ...

    def draft_failed(self, drafter_id: str, reason: str) -> None: ...

    def score_missing(self, drafter_id: str) -> None: ...

    def migrated(self) -> None: ...

    def learning_failed(self, reason: str) -> None:
        """A learner or objective has raised, and the answer went on with the weights that it had."""


class NoEvents:
    """Ignores everything, for benchmarks and tests that count nothing."""

    def observe_round(self, report: RoundReport) -> None:
        pass

    def observe_request(self, stats: DecodeStats, finish_reason: FinishReason, seconds: float, ttft_s: float) -> None:
        pass

    def draft_failed(self, drafter_id: str, reason: str) -> None:
        pass

    def score_missing(self, drafter_id: str) -> None:
        pass

    def migrated(self) -> None:
        pass

    def learning_failed(self, reason: str) -> None:
        pass
