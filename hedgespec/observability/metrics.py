"""`Metrics` counts what one router replica does, for Prometheus.

Labels are replicas, configured drafters and short fixed lists, never tenants or anything a client sends: the number
of series does not grow with traffic. The `vllm:` names are vLLM's own, so that its bench and dashboards work unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric

from hedgespec import errors
from hedgespec.observability.vllm_metrics import VllmMetrics
from hedgespec.types import DecodeStats, FinishReason, RoundReport

if TYPE_CHECKING:
    from hedgespec.store.fields import StoreEvent

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
NO_DRAFTER = "none"
"""`drafter` label of rounds without speculation."""

_OTHER = "other"
_FAILURES = frozenset({"deadline", "silent", *(n for n in vars(errors) if n[0].isupper() and n != "HedgeSpecError")})
_SHORT_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_LONG_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)


class Metrics:
    """Implements `router.events.Events`; also what the HTTP layer and the store report to."""

    def __init__(self, model_name: str, drafter_ids: Sequence[str], replica: str = "0") -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._replica = replica
        self._drafter_ids = tuple(drafter_ids)
        self._vllm = VllmMetrics(self._registry, model_name, replica)

        self._rounds = self._counter(
            "rounds", "Rounds by drafter that proposed in them; several do in a merged one.", "drafter"
        )
        self._drafted = self._counter("drafted_tokens", "Draft tokens proposed.", "drafter")
        self._accepted = self._counter("accepted_tokens", "Draft tokens accepted.", "drafter")
        self._passes = self._counter(
            "expected_passes", "Target passes the drafter alone would have needed for the answers given.", "drafter"
        )
        self._selected = self._counter(
            "best_drafter", "Answers in which the drafter ended with most weight.", "drafter"
        )
        self._weight = self._gauge("learner_weight", "The learner's weight after the latest round.", "drafter")
        self._draft_s = self._histogram("draft_seconds", "Wait for a proposal.", _SHORT_S, "drafter")
        self._verify_s = self._histogram("verify_seconds", "Wait for the target's pass.", _SHORT_S)
        self._transport_s = self._histogram("transport_seconds", "Part of both waits not spent computing.", _SHORT_S)
        self._failures = self._counter(
            "draft_failures", "Proposals that never came or were refused.", "drafter", "reason"
        )
        self._missing = self._counter("scores_missing", "Scores that came too late or not at all.", "drafter")
        self._store_failures = self._counter(
            "store_failures", "Failed operations of the preference store, and records left out.", "kind"
        )
        self._learning_failures = self._counter("learning_failures", "Answers whose learner or objective failed.")
        self._migrations = self._counter("migrations", "Answers moved to another target replica.")
        self._requests = self._counter("http_requests", "HTTP requests.", "endpoint", "status")
        self._prompt_tokens = self._counter("prompt_tokens", "Prompt tokens of finished answers.")
        self._cache_queries = self._counter(
            "prefix_cache_queries", "Prompt tokens that the target's cache was asked for."
        )
        self._cache_hits = self._counter("prefix_cache_hits", "Prompt tokens of them that it knew.")
        self._tokens = self._counter("generated_tokens", "Tokens of finished answers.")
        self._running = self._gauge("requests_running", "Answers being generated.")
        self._ttft_s = self._histogram("time_to_first_token_seconds", "From the request to its first token.", _LONG_S)
        self._gap_s = self._histogram("inter_chunk_seconds", "Between two chunks of one stream.", _SHORT_S)
        for drafter_id in self._drafter_ids:
            self._rounds.labels(replica, drafter_id)  # a drafter that was never chosen shows as 0, not as absent

    def observe_round(self, report: RoundReport) -> None:
        self._verify_s.labels(self._replica).observe(report.verify_s)
        self._transport_s.labels(self._replica).observe(report.transport_s)
        if report.drafter_id is None:
            self._rounds.labels(self._replica, NO_DRAFTER).inc()
        for share in report.shares:
            drafter = self._known(share.drafter_id)
            self._rounds.labels(self._replica, drafter).inc()
            self._drafted.labels(self._replica, drafter).inc(share.num_drafted)
            self._accepted.labels(self._replica, drafter).inc(share.num_accepted)
            self._draft_s.labels(self._replica, drafter).observe(report.draft_s)
        if len(report.weights) == len(self._drafter_ids):
            for drafter_id, weight in zip(self._drafter_ids, report.weights, strict=True):
                self._weight.labels(self._replica, drafter_id).set(float(weight))
        self._vllm.observe_round(report.num_drafted, report.num_accepted)

    def observe_request(self, stats: DecodeStats, finish_reason: FinishReason, seconds: float, ttft_s: float) -> None:
        for drafter_id, passes in stats.expected_passes.items():
            self._passes.labels(self._replica, self._known(drafter_id)).inc(passes)
        if stats.weights:
            best = max(stats.weights, key=stats.weights.__getitem__)
            self._selected.labels(self._replica, self._known(best)).inc()
        self._prompt_tokens.labels(self._replica).inc(stats.num_prompt_tokens)
        self._cache_queries.labels(self._replica).inc(stats.num_prompt_tokens)
        self._cache_hits.labels(self._replica).inc(stats.num_cached_tokens)
        self._tokens.labels(self._replica).inc(stats.num_emitted)
        self._ttft_s.labels(self._replica).observe(ttft_s)
        self._vllm.observe_request(stats, finish_reason, seconds, ttft_s)

    def draft_failed(self, drafter_id: str, reason: str) -> None:
        """reason: `deadline`, `silent` or the name of one of our exceptions; anything else counts as `other`."""
        reason = reason if reason in _FAILURES else _OTHER
        self._failures.labels(self._replica, self._known(drafter_id), reason).inc()

    def score_missing(self, drafter_id: str) -> None:
        self._missing.labels(self._replica, self._known(drafter_id)).inc()

    def store_failed(self, event: StoreEvent) -> None:
        self._store_failures.labels(self._replica, event).inc()

    def migrated(self) -> None:
        self._migrations.labels(self._replica).inc()

    def learning_failed(self, reason: str) -> None:
        """Count it and log the reason."""
        self._learning_failures.labels(self._replica).inc()
        structlog.get_logger().error("learning_failed", reason=reason)

    def observe_http(self, endpoint: str, status: int) -> None:
        """endpoint: a route's template, so that the path a client invents is never a label."""
        self._requests.labels(self._replica, endpoint, str(status)).inc()

    def observe_chunk_gap(self, seconds: float) -> None:
        self._gap_s.labels(self._replica).observe(seconds)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count one answer as being generated while the context is open."""
        gauges = (self._running.labels(self._replica), self._vllm.running)
        for gauge in gauges:
            gauge.inc()
        try:
            yield
        finally:
            for gauge in gauges:
                gauge.dec()

    def render(self) -> bytes:
        """Return everything in Prometheus' text form, `CONTENT_TYPE`."""
        return generate_latest(_WithoutCreationTimes(self._registry))

    def _known(self, drafter_id: str | None) -> str:
        if drafter_id is None:
            return NO_DRAFTER
        return drafter_id if drafter_id in self._drafter_ids else _OTHER

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"hedgespec_{name}", text, ("replica", *labels), registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"hedgespec_{name}", text, ("replica", *labels), registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"hedgespec_{name}", text, ("replica", *labels), buckets=buckets, registry=self._registry)


class _WithoutCreationTimes:
    """Leaves out the `_created` series of every counter: prometheus_client can only switch them off process-wide."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
            yield metric
