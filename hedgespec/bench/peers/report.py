"""What a comparison with peers found: tokens/s of every arm, ratios with intervals over prompts, and who writes the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hedgespec.bench.answers import NUM_RESAMPLES, Ratio, ratio
from hedgespec.bench.peers.contract import Answer, Batch

SAME_START_TOKENS = 32
SAME_START_CHARS = 80
"""About as much text as 32 tokens, to compare with a server that tells no ids."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One batch of one arm."""

    category: str
    batch: Batch


@dataclass(slots=True)
class PeersReport:
    """bits: of every arm that started. skipped: arm -> why it was not measured, or not to the end.

    samples[level][arm]: the batches in the order of the prompts; an arm that failed has none
    """

    max_tokens: int
    bits: dict[str, str]
    skipped: dict[str, str]
    samples: dict[int, dict[str, list[Sample]]] = field(default_factory=dict)

    def add(self, level: int, arm: str, category: str, batch: Batch) -> None:
        self.samples.setdefault(level, {}).setdefault(arm, []).append(Sample(category, batch))

    def drop(self, arm: str, why: str) -> None:
        """Leave an arm out: an average over fewer prompts than the others' would compare different work."""
        self.skipped[arm] = why
        for by_arm in self.samples.values():
            by_arm.pop(arm, None)

    def arms(self, level: int) -> list[str]:
        """Return the arms that were measured at this level, in the order in which they were given."""
        measured = self.samples.get(level, {})
        return [arm for arm in self.bits if arm in measured]

    def tokens_per_s(self, level: int, arm: str, category: str | None = None) -> Ratio:
        rows = self._rows(level, arm, category)
        return ratio([row.num_tokens for row in rows], [row.seconds for row in rows])

    def faster(self, level: int, arm: str, than: str, category: str | None = None) -> Ratio:
        """Return tokens/s of one arm / of another, with an interval over the prompts."""
        return rate_ratio(self._rows(level, arm, category), self._rows(level, than, category))

    def first_token_s(self, level: int, arm: str) -> float | None:
        """Return the median over all answers; None when the arm does not tell."""
        times = [answer.first_token_s for row in self._rows(level, arm) for answer in row.answers]
        return None if np.isnan(times).any() else float(np.median(times))

    def same_start(self, level: int, arm: str, reference: str) -> tuple[int, int]:
        """Return how many answers begin with the same SAME_START_TOKENS tokens as the reference's, and of how many."""
        pairs = self._pairs(level, arm, reference)
        return sum(_same(a, b, SAME_START_TOKENS, SAME_START_CHARS) for a, b in pairs), len(pairs)

    def same_text(self, level: int, arm: str, reference: str) -> tuple[int, int]:
        """Return how many whole answers equal the reference's, and of how many."""
        pairs = self._pairs(level, arm, reference)
        return sum(_same(a, b, None, None) for a, b in pairs), len(pairs)

    def as_json(self, bases: Sequence[str], reference: str) -> dict[str, Any]:
        """Return everything that was measured and computed. bases: the arms whose speed is divided by every arm's."""
        return {
            "max_tokens": self.max_tokens,
            "skipped": self.skipped,
            "at_once": {str(level): self._level_json(level, bases, reference) for level in self.samples},
        }

    def _level_json(self, level: int, bases: Sequence[str], reference: str) -> Mapping[str, Any]:
        present = [base for base in bases if base in self.samples[level]]
        return {
            arm: {
                "bits": self.bits[arm],
                "tokens_per_s": self.tokens_per_s(level, arm),
                "first_token_s": self.first_token_s(level, arm),
                "ratios": {f"{base} / this": self.faster(level, base, arm) for base in present},
                "same_first_tokens_as_plain": self.same_start(level, arm, reference),
                "same_text_as_plain": self.same_text(level, arm, reference),
                "answers": [
                    {"category": s.category, "tokens": s.batch.num_tokens, "seconds": round(s.batch.seconds, 4)}
                    for s in samples
                ],
            }
            for arm, samples in self.samples[level].items()
        }

    def _rows(self, level: int, arm: str, category: str | None = None) -> list[Batch]:
        return [s.batch for s in self.samples[level][arm] if category in (None, s.category)]

    def _pairs(self, level: int, arm: str, reference: str) -> list[tuple[Answer, Answer]]:
        both = zip(self._rows(level, arm), self._rows(level, reference), strict=True)
        return [pair for a, b in both for pair in zip(a.answers, b.answers, strict=True)]


def rate_ratio(ours: Sequence[Batch], theirs: Sequence[Batch]) -> Ratio:
    """Return (our tokens / our seconds) / (their tokens / their seconds) with a 95 % bootstrap interval.

    Both are measured on the same prompts in the same order, and prompts are resampled in pairs.
    """
    counts = np.array([[b.num_tokens for b in row] for row in (ours, theirs)], dtype=np.float64)
    seconds = np.array([[b.seconds for b in row] for row in (ours, theirs)], dtype=np.float64)

    def rates(picks: Any) -> Any:
        (our_tokens, their_tokens), (our_s, their_s) = counts[:, picks].sum(axis=-1), seconds[:, picks].sum(axis=-1)
        return our_tokens * their_s / np.maximum(our_s * their_tokens, 1e-12)

    everything = np.arange(len(ours))
    drawn = rates(np.random.default_rng(0).integers(0, len(ours), (NUM_RESAMPLES, len(ours))))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Ratio(float(rates(everything)), float(low), float(high))


def _same(one: Answer, other: Answer, num_tokens: int | None, num_chars: int | None) -> bool:
    if one.token_ids and other.token_ids:
        return one.token_ids[:num_tokens] == other.token_ids[:num_tokens]
    return one.text[:num_chars] == other.text[:num_chars]
