"""Series with vLLM's own names, so that `vllm bench serve` and existing dashboards read ours."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from hedgespec.types import DecodeStats, FinishReason

_LABELS = ("model_name", "engine")
_TTFT_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_E2E_S = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0)


class VllmMetrics:
    """Definitions as in vLLM: acceptance rate = accepted / drafted, acceptance length = 1 + accepted / drafts."""

    def __init__(self, registry: CollectorRegistry, model_name: str, engine: str) -> None:
        values = (model_name, engine)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"vllm:{name}", text, (*_LABELS, *labels), registry=registry)

        self._values = values
        self._drafts = counter("spec_decode_num_drafts", "Drafts that were verified.").labels(*values)
        self._drafted = counter("spec_decode_num_draft_tokens", "Draft tokens.").labels(*values)
        self._accepted = counter("spec_decode_num_accepted_tokens", "Accepted draft tokens.").labels(*values)
        self._per_position = counter(
            "spec_decode_num_accepted_tokens_per_pos", "Accepted draft tokens by draft position.", "position"
        )
        self._prompt_tokens = counter("prompt_tokens", "Prompt tokens.").labels(*values)
        self._cache_queries = counter("prefix_cache_queries", "Prompt tokens looked up.").labels(*values)
        self._cache_hits = counter("prefix_cache_hits", "Prompt tokens found.").labels(*values)
        self._tokens = counter("generation_tokens", "Generated tokens.").labels(*values)
        self._success = counter("request_success", "Finished answers.", "finished_reason")
        self.running = Gauge(
            "vllm:num_requests_running", "Answers being generated.", _LABELS, registry=registry
        ).labels(*values)
        self._ttft_s = Histogram(
            "vllm:time_to_first_token_seconds", "Time to first token.", _LABELS, buckets=_TTFT_S, registry=registry
        ).labels(*values)
        self._e2e_s = Histogram(
            "vllm:e2e_request_latency_seconds", "Time of an answer.", _LABELS, buckets=_E2E_S, registry=registry
        ).labels(*values)

    def observe_round(self, num_drafted: int, num_accepted: int) -> None:
        if num_drafted == 0:
            return
        self._drafts.inc()
        self._drafted.inc(num_drafted)
        self._accepted.inc(num_accepted)
        for position in range(num_accepted):
            self._per_position.labels(*self._values, str(position)).inc()

    def observe_request(self, stats: DecodeStats, finish_reason: FinishReason, seconds: float, ttft_s: float) -> None:
        self._prompt_tokens.inc(stats.num_prompt_tokens)
        self._cache_queries.inc(stats.num_prompt_tokens)
        self._cache_hits.inc(stats.num_cached_tokens)
        self._tokens.inc(stats.num_emitted)
        self._success.labels(*self._values, finish_reason).inc()
        self._ttft_s.observe(ttft_s)
        self._e2e_s.observe(seconds)
