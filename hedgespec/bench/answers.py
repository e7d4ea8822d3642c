"""Run one prompt through a generator, and sum up what the answers of one way of decoding needed, with intervals."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from hedgespec.protocols import Generator
from hedgespec.types import DecodeStats, GenerationRequest, SamplingParams

PLAIN, LEARNED = "plain", "learned"
"""The arms that every comparison has: no speculation, and the learner's choice of drafters."""

ROUND_PARTS = ("draft", "verify", "transport", "learn", "overhead")
"""The parts of a round that are timed; transport is contained in draft and verify."""

NUM_RESAMPLES = 2000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MeasuredAnswer:
    """One answer. token_ids: an end token included; seconds: wall time, prefill included."""

    text: str
    token_ids: tuple[int, ...]
    seconds: float
    stats: DecodeStats = field(repr=False)


async def measure_answer(
    generator: Generator,
    prompt_ids: NDArray[np.int32],
    sampling: SamplingParams,
    drafter: str | None,
    tenant: str = "default",
    scope: str | None = None,
) -> MeasuredAnswer:
    """Decode one answer. drafter: as in `GenerationRequest`; None lets the learner choose.

    tenant, scope: whose preferences the learner starts from; without a scope it starts uniform
    """
    request = GenerationRequest(
        request_id=uuid4().hex,
        tenant=tenant,
        prompt_ids=prompt_ids,
        sampling=sampling,
        drafter=drafter,
        scope=uuid4().hex if scope is None else scope,
    )
    started = time.perf_counter()
    text = ""
    token_ids: list[int] = []
    stats: DecodeStats | None = None
    async with aclosing(generator.generate(request)) as chunks:
        async for chunk in chunks:
            text += chunk.text
            token_ids.extend(chunk.token_ids)
            stats = chunk.stats
    assert stats is not None
    return MeasuredAnswer(text, tuple(token_ids), time.perf_counter() - started, stats)


@dataclass(frozen=True, slots=True)
class Ratio:
    """The sum of numerators over the sum of denominators, with a 95 % bootstrap interval over prompts."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
    """Return the ratio of two sums over prompts, with a percentile bootstrap interval.

    Whole prompts are resampled, because tokens of one answer depend on each other. NaN when the denominators sum to 0.
    """
    top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if len(top) == 0 or bottom.sum() <= 0.0:
        return Ratio(float("nan"), float("nan"), float("nan"))
    picks = np.random.default_rng(0).integers(0, len(top), (NUM_RESAMPLES, len(top)))
    resampled = top[picks].sum(axis=1) / np.maximum(bottom[picks].sum(axis=1), 1e-12)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Ratio(float(top.sum() / bottom.sum()), float(low), float(high))


@dataclass(slots=True)
class ArmResult:
    """The counts and times of one arm (one way of decoding), with an entry per answer or per repeat of several answers.

    part_s:     seconds of all rounds by part, see ROUND_PARTS
    best_fixed: expected passes of the best fixed drafter on each answer's text; NaN when no drafter scored all of it
    """

    tokens: list[int] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    part_s: dict[str, float] = field(default_factory=dict)
    best_fixed: list[float] = field(default_factory=list)

    def add(self, answer: MeasuredAnswer) -> None:
        """Add an answer with its statistics."""
        stats = answer.stats
        self.add_counts(stats.num_emitted, stats.num_rounds, answer.seconds)
        self.best_fixed.append(min(stats.expected_passes.values(), default=float("nan")))
        for part in ROUND_PARTS:
            self.part_s[part] = self.part_s.get(part, 0.0) + float(getattr(stats, f"{part}_s"))

    def add_counts(self, num_tokens: int, num_passes: int, seconds: float) -> None:
        """Add an answer without statistics, or several answers together."""
        self.tokens.append(num_tokens)
        self.passes.append(num_passes)
        self.seconds.append(seconds)

    @property
    def mean_accepted_tokens(self) -> Ratio:
        """Emitted tokens per target pass."""
        return ratio(self.tokens, self.passes)

    @property
    def tokens_per_s(self) -> Ratio:
        """Emitted tokens per second of wall time, prefill included."""
        return ratio(self.tokens, self.seconds)

    @property
    def share_of_best_fixed(self) -> Ratio | None:
        """Passes of the best fixed drafter in hindsight / passes used; None when drafters were not scored."""
        if len(self.best_fixed) < len(self.passes) or np.isnan(self.best_fixed).any():
            return None
        return ratio(self.best_fixed, self.passes)

    @property
    def round_ms(self) -> float:
        """Mean wall time of a round in milliseconds, prefill included."""
        return self._per_round(sum(self.seconds))

    @property
    def parts_ms(self) -> dict[str, float]:
        """Mean milliseconds of a round by part."""
        return {part: self._per_round(seconds) for part, seconds in self.part_s.items()}

    def _per_round(self, seconds: float) -> float:
        return 1e3 * seconds / max(1, sum(self.passes))

    def as_json(self) -> dict[str, Any]:
        """Return the counts with the derived figures, so that a reader of the JSON does not have to compute them."""
        return {
            "mean_accepted_tokens": self.mean_accepted_tokens,
            "tokens_per_s": self.tokens_per_s,
            "share_of_best_fixed": self.share_of_best_fixed,
            "parts_ms": self.parts_ms,
            "tokens": self.tokens,
            "passes": self.passes,
            "seconds": [round(s, 4) for s in self.seconds],
        }


def rotated(items: Sequence[T], shift: int) -> list[T]:
    """Return the items in order, starting with another one: arms take turns in going first."""
    shift %= max(len(items), 1)
    return [*items[shift:], *items[:shift]]
