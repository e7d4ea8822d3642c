"""Compute the figures that serving benchmarks quote from the records of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hedgespec.bench.load import LoadResult, RequestRecord


@dataclass(frozen=True, slots=True)
class Spread:
    """The spread of one latency over all requests (or gaps), in milliseconds."""

    mean_ms: float
    median_ms: float
    p99_ms: float

    @staticmethod
    def of(seconds: Sequence[float]) -> Spread:
        """Summarise latencies, leaving out those that are not finite."""
        values = np.asarray([s for s in seconds if np.isfinite(s)])
        if not len(values):
            return Spread(float("nan"), float("nan"), float("nan"))
        return Spread(*(1e3 * float(v) for v in (values.mean(), np.median(values), np.quantile(values, 0.99))))


@dataclass(frozen=True, slots=True)
class LoadReport:
    """The figures of a run.

    goodput_per_s:        completed requests per second that met the limits; None when no limit was given
    acceptance_rate:      accepted / drafted tokens over the run; None when the server does not report them
    mean_accepted_tokens: 1 + accepted tokens / drafts; None likewise
    """

    num_completed: int
    num_failed: int
    duration_s: float
    requests_per_s: float
    tokens_per_s: float
    goodput_per_s: float | None
    ttft: Spread
    tpot: Spread
    itl: Spread
    e2e: Spread
    acceptance_rate: float | None
    mean_accepted_tokens: float | None
    failures: dict[str, int]


def load_report(
    result: LoadResult, ttft_limit_ms: float | None = None, tpot_limit_ms: float | None = None
) -> LoadReport:
    """Summarise a run. ttft_limit_ms, tpot_limit_ms: what an answer must meet to count for goodput."""
    done = [r for r in result.records if not r.failure]
    failures = Counter(r.failure for r in result.records if r.failure)
    good = [r for r in done if _meets(r, ttft_limit_ms, tpot_limit_ms)]
    has_limits = ttft_limit_ms is not None or tpot_limit_ms is not None
    counts = result.spec_decode
    drafted, drafts = counts.get("num_draft_tokens", 0.0), counts.get("num_drafts", 0.0)
    accepted = counts.get("num_accepted_tokens", 0.0)
    return LoadReport(
        num_completed=len(done),
        num_failed=len(result.records) - len(done),
        duration_s=result.duration_s,
        requests_per_s=len(done) / result.duration_s,
        tokens_per_s=sum(r.num_tokens for r in done) / result.duration_s,
        goodput_per_s=len(good) / result.duration_s if has_limits else None,
        ttft=Spread.of([r.ttft_s for r in done]),
        tpot=Spread.of([r.tpot_s for r in done]),
        itl=Spread.of([gap for r in done for gap in r.itl_s]),
        e2e=Spread.of([r.e2e_s for r in done]),
        acceptance_rate=accepted / drafted if drafted else None,
        mean_accepted_tokens=1.0 + accepted / drafts if drafts else None,
        failures=dict(failures.most_common(5)),
    )


def _meets(record: RequestRecord, ttft_limit_ms: float | None, tpot_limit_ms: float | None) -> bool:
    """Tell whether a request met the limits; an answer of one token has no TPOT and cannot miss that limit."""
    in_time = ttft_limit_ms is None or 1e3 * record.ttft_s <= ttft_limit_ms
    return in_time and (tpot_limit_ms is None or record.num_tokens < 2 or 1e3 * record.tpot_s <= tpot_limit_ms)
