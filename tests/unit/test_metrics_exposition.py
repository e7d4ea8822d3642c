"""/metrics shows exact vLLM names, our own by drafter, and a bounded number of series."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from hedgespec.observability.logging import configure_logging
from hedgespec.observability.metrics import Metrics
from hedgespec.types import DecodeStats, RoundReport

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def series(metrics: Metrics) -> Series:
    families = text_string_to_metric_families(metrics.render().decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return series(metrics)[name, frozenset(labels.items())]


def a_round(drafter_id: str | None, num_drafted: int, num_accepted: int) -> RoundReport:
    tokens = np.arange(num_accepted + 1, dtype=np.int32)
    weights = np.array([0.75, 0.25])
    return RoundReport(0, drafter_id, num_drafted, num_accepted, tokens, None, 0.01, 0.02, 0.0, 0.003, weights)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("zoo", ("sql", "ngram"), replica="r1")


def test_vllms_counters_have_its_exact_names_and_meanings(metrics: Metrics) -> None:
    """Accepted per position counts position p once for every draft that was accepted beyond p."""
    for accepted in (3, 1, 0):
        metrics.observe_round(a_round("sql", 5, accepted))
    metrics.observe_round(a_round(None, 0, 0))
    labels = {"model_name": "zoo", "engine": "r1"}
    assert value(metrics, "vllm:spec_decode_num_drafts_total", **labels) == 3
    assert value(metrics, "vllm:spec_decode_num_draft_tokens_total", **labels) == 15
    assert value(metrics, "vllm:spec_decode_num_accepted_tokens_total", **labels) == 4
    per_position = "vllm:spec_decode_num_accepted_tokens_per_pos_total"
    assert [value(metrics, per_position, **labels, position=str(p)) for p in range(3)] == [2, 1, 1]


def test_rounds_are_counted_by_drafter_and_without_one(metrics: Metrics) -> None:
    metrics.observe_round(a_round("sql", 5, 3))
    metrics.observe_round(a_round(None, 0, 0))
    assert value(metrics, "hedgespec_rounds_total", replica="r1", drafter="sql") == 1
    assert value(metrics, "hedgespec_rounds_total", replica="r1", drafter="none") == 1
    assert value(metrics, "hedgespec_rounds_total", replica="r1", drafter="ngram") == 0
    assert value(metrics, "hedgespec_accepted_tokens_total", replica="r1", drafter="sql") == 3
    assert value(metrics, "hedgespec_learner_weight", replica="r1", drafter="sql") == 0.75
    assert value(metrics, "hedgespec_draft_seconds_count", replica="r1", drafter="sql") == 1


def test_a_finished_answer_is_counted_once(metrics: Metrics) -> None:
    stats = DecodeStats(num_prompt_tokens=7, num_emitted=20, expected_passes={"sql": 5.5}, weights={"sql": 1.0})
    metrics.observe_request(stats, "length", seconds=0.4, ttft_s=0.05)
    labels = {"model_name": "zoo", "engine": "r1"}
    assert value(metrics, "vllm:prompt_tokens_total", **labels) == 7
    assert value(metrics, "vllm:generation_tokens_total", **labels) == 20
    assert value(metrics, "vllm:request_success_total", **labels, finished_reason="length") == 1
    assert value(metrics, "vllm:time_to_first_token_seconds_sum", **labels) == 0.05
    assert value(metrics, "vllm:e2e_request_latency_seconds_sum", **labels) == 0.4
    assert value(metrics, "hedgespec_expected_passes_total", replica="r1", drafter="sql") == 5.5
    assert value(metrics, "hedgespec_best_drafter_total", replica="r1", drafter="sql") == 1


def test_hit_rates_of_the_prefix_cache_are_counted_in_tokens_of_finished_answers(metrics: Metrics) -> None:
    """hits / queries is the share of prompt tokens whose pass was saved; both names say the same."""
    for num_cached in (0, 96):
        stats = DecodeStats(num_prompt_tokens=100, num_emitted=5, num_cached_tokens=num_cached)
        metrics.observe_request(stats, "stop", seconds=0.1, ttft_s=0.05)
    for prefix, labels in (("vllm:", {"model_name": "zoo", "engine": "r1"}), ("hedgespec_", {"replica": "r1"})):
        assert value(metrics, f"{prefix}prefix_cache_queries_total", **labels) == 200
        assert value(metrics, f"{prefix}prefix_cache_hits_total", **labels) == 96


def test_running_answers_go_up_and_down_also_when_one_fails(metrics: Metrics) -> None:
    labels = {"model_name": "zoo", "engine": "r1"}
    with contextlib.suppress(RuntimeError), metrics.running():
        assert value(metrics, "vllm:num_requests_running", **labels) == 1
        raise RuntimeError
    assert value(metrics, "vllm:num_requests_running", **labels) == 0
    assert value(metrics, "hedgespec_requests_running", replica="r1") == 0


def test_failures_are_counted_by_a_fixed_list_of_reasons(metrics: Metrics) -> None:
    for reason in ("deadline", "ReplicaLost", "boom 1", "boom 2"):
        metrics.draft_failed("sql", reason)
    metrics.score_missing("ngram")
    metrics.store_failed("load_failed")
    metrics.migrated()
    failures = "hedgespec_draft_failures_total"
    assert value(metrics, failures, replica="r1", drafter="sql", reason="deadline") == 1
    assert value(metrics, failures, replica="r1", drafter="sql", reason="ReplicaLost") == 1
    assert value(metrics, failures, replica="r1", drafter="sql", reason="other") == 2
    assert value(metrics, "hedgespec_scores_missing_total", replica="r1", drafter="ngram") == 1
    assert value(metrics, "hedgespec_store_failures_total", replica="r1", kind="load_failed") == 1
    assert value(metrics, "hedgespec_migrations_total", replica="r1") == 1


def test_the_number_of_series_does_not_grow_with_made_up_names(metrics: Metrics) -> None:
    def use(name: str) -> None:
        metrics.observe_round(a_round(name, 5, 5))
        metrics.draft_failed(name, name)
        metrics.observe_request(DecodeStats(expected_passes={name: 1.0}, weights={name: 1.0}), "stop", 1.0, 1.0)

    use("first")
    before = len(series(metrics))
    for index in range(1000):
        use(f"made-up-{index}")
    assert len(series(metrics)) == before < 400


def test_creation_times_are_not_exported_and_two_replicas_do_not_share_state(metrics: Metrics) -> None:
    metrics.migrated()
    assert "_created" not in metrics.render().decode()
    assert ("hedgespec_migrations_total", frozenset({("replica", "r2")})) not in series(Metrics("zoo", (), "r2"))


def test_a_log_line_keeps_allowed_fields_only_and_no_exception_text() -> None:
    """A prompt that gets into a log call or an exception message does not get into the log."""
    stream = io.StringIO()
    try:
        configure_logging("json", stream=stream)
        log = structlog.get_logger()
        try:
            raise ValueError("secret prompt")
        except ValueError:
            log.error("request_failed", request_id="r", prompt="secret prompt", exc_info=True)
    finally:
        structlog.reset_defaults()
    line = json.loads(stream.getvalue())
    assert "secret" not in stream.getvalue()
    kept = [line[name] for name in ("event", "request_id", "error", "dropped_fields")]
    assert kept == ["request_failed", "r", "ValueError", 1]
    assert "test_a_log_line" in line["frames"][0]
