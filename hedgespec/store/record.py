"""Records are what a store keeps, sums over answers under one key, and what a preference is computed from (design 7)."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from hedgespec.errors import InvalidObservation
from hedgespec.types import Method

SCHEMA = 1
"""Version of keys and records. A reader ignores a newer one and never overwrites it."""

ALPHA = 1.0
"""Weight of the uniform preference, in answers."""

_TIE = 1e-9
_MAX_PART_CHARS = 96
_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class PreferenceKey:
    """A key names one set of statistics: it holds everything that changes which drafter is best.

    scope: optional sub-key chosen by the tenant; target: the model's name
    """

    tenant: str
    scope: str
    target: str
    method: Method
    objective: str
    max_draft_tokens: int
    schema: int = SCHEMA

    def __str__(self) -> str:
        """The canonical name in a store, ASCII letters, digits and `%-._~=:`; two different keys never share one."""
        parts = (self.tenant, self.scope, self.target, self.method, self.objective, str(self.max_draft_tokens))
        return ":".join(("hedgespec", "preferences", str(self.schema), *map(_safe, parts)))


@dataclass(frozen=True, slots=True)
class DrafterTotals:
    """Sums over answers that a drafter was scored throughout.

    wins: answers in which its passes would have cost least (the fewest of them, or the least time), a tie shared
    passes: expected target passes, used alone; tokens: emitted; count: answers
    """

    wins: float = 0.0
    passes: float = 0.0
    tokens: int = 0
    count: int = 0

    def __add__(self, other: DrafterTotals) -> DrafterTotals:
        return DrafterTotals(
            self.wins + other.wins, self.passes + other.passes, self.tokens + other.tokens, self.count + other.count
        )

    def __sub__(self, earlier: DrafterTotals) -> DrafterTotals:
        """What was added since; rounding never makes it negative."""
        return DrafterTotals(
            max(0.0, self.wins - earlier.wins),
            max(0.0, self.passes - earlier.passes),
            self.tokens - earlier.tokens,
            self.count - earlier.count,
        )


Totals = Mapping[str, DrafterTotals]
"""Drafter id (name + weight digest) -> sums."""


@dataclass(frozen=True, slots=True)
class FoldMark:
    """What a fold has added of one process: its record with this number, when it had this sequence.

    number:          of the newest name that was folded; a process that has a newer one has given up the older ones
    newest_bucket_s: start of that record's newest bucket; once it is forgotten, so is the mark
    """

    number: int
    sequence: int
    newest_bucket_s: int


def process_and_number(incarnation: str) -> tuple[str, int]:
    """Split a name PROCESS.NUMBER; a name without a number has number 0."""
    process, _, number = incarnation.rpartition(".")
    return (process, int(number)) if process and _NUMBER.fullmatch(number) else (incarnation, 0)


@dataclass(frozen=True, slots=True)
class PreferenceRecord:
    """Cumulative sums in time buckets, so that old ones can be forgotten. Adding records adds the sums.

    sequence: rises with every change, so that a late write cannot undo a newer one
    buckets: start of the bucket in Unix seconds -> totals
    folded: process -> mark, in the record that sums up incarnations that no longer write; empty in every other record
    """

    sequence: int = 0
    buckets: Mapping[int, Totals] = field(default_factory=dict)
    folded: Mapping[str, FoldMark] = field(default_factory=dict)

    def plus(self, bucket_s: int, totals: Totals) -> PreferenceRecord:
        """The next record: these totals added to one bucket."""
        return PreferenceRecord(self.sequence + 1, _summed((self.buckets, {bucket_s: totals})))

    def since(self, oldest_bucket_s: int) -> PreferenceRecord:
        """The record without the buckets that start earlier, and without marks of what had only such buckets."""
        return PreferenceRecord(
            self.sequence,
            {b: t for b, t in self.buckets.items() if b >= oldest_bucket_s},
            {name: mark for name, mark in self.folded.items() if mark.newest_bucket_s >= oldest_bucket_s},
        )

    def mark_of(self, incarnation: str) -> FoldMark | None:
        """Return the mark by which this incarnation, or a newer one of its process, is known to be folded."""
        process, number = process_and_number(incarnation)
        mark = self.folded.get(process)
        return mark if mark is not None and number <= mark.number else None

    def minus(self, earlier: PreferenceRecord) -> PreferenceRecord:
        """What was added since an earlier state of this record; the empty record when nothing was."""
        buckets = {}
        for bucket_s, totals in self.buckets.items():
            before = earlier.buckets.get(bucket_s, {})
            added = {name: total - before.get(name, DrafterTotals()) for name, total in totals.items()}
            buckets[bucket_s] = {name: total for name, total in added.items() if total.count > 0}
        kept = {bucket_s: totals for bucket_s, totals in buckets.items() if totals}
        return PreferenceRecord(self.sequence, kept) if kept else PreferenceRecord()

    def totals(self) -> dict[str, DrafterTotals]:
        """Summed over the buckets."""
        return _summed({0: totals} for totals in self.buckets.values()).get(0, {})


def merged(records: Iterable[PreferenceRecord], sequence: int = 0) -> PreferenceRecord:
    """The sum of records of different incarnations."""
    return PreferenceRecord(sequence, _summed(record.buckets for record in records))


@dataclass(frozen=True, slots=True)
class AnswerOutcome:
    """How the drafters would have fared on one answer.

    expected_passes: drafter id -> passes it alone would have needed; only drafters that were scored throughout
    num_tokens: tokens of the answer, the same for all
    num_conceded: drafters that had fallen so far behind that they were not scored to the end; they have lost
    pass_costs: drafter id -> what one of its passes costs under the objective, in any unit; 1 for those that are missing
    """

    expected_passes: Mapping[str, float]
    num_tokens: int
    num_conceded: int = 0
    pass_costs: Mapping[str, float] = field(default_factory=dict)


def preference_vector(
    record: PreferenceRecord, drafter_ids: Sequence[str], alpha: float = ALPHA
) -> NDArray[np.float64]:
    """Return [num_drafters]: (wins + alpha/N) / (total wins + alpha), sums to 1.

    Drafters that are no longer configured do not count; one that the record does not know gets its share of alpha.
    """
    totals = record.totals()
    wins = np.array([totals[name].wins if name in totals else 0.0 for name in drafter_ids], dtype=np.float64)
    preference: NDArray[np.float64] = (wins + alpha / max(len(wins), 1)) / (wins.sum() + alpha)
    return preference


def answer_totals(outcome: AnswerOutcome) -> dict[str, DrafterTotals]:
    """Return what one answer adds to the sums. The drafters whose passes cost least share one win.

    A drafter without a competitor wins nothing: being the only one that was scored says nothing about being good.
    Raises InvalidObservation for passes that are not between 0 and the number of tokens.
    """
    passes = outcome.expected_passes
    for name, value in passes.items():
        if not (math.isfinite(value) and 0.0 <= value <= outcome.num_tokens * (1.0 + _TIE)):
            raise InvalidObservation(f"Drafter {name!r}: {value} expected passes for {outcome.num_tokens} tokens.")
    has_competition = len(passes) + outcome.num_conceded > 1
    costs = {name: value * outcome.pass_costs.get(name, 1.0) for name, value in passes.items()}
    least = min(costs.values(), default=0.0) * (1.0 + _TIE)
    winners = {name for name, cost in costs.items() if cost <= least} if has_competition else set()
    return {
        name: DrafterTotals(1.0 / len(winners) if name in winners else 0.0, float(value), outcome.num_tokens, 1)
        for name, value in passes.items()
    }


def _summed(parts: Iterable[Mapping[int, Totals]]) -> dict[int, dict[str, DrafterTotals]]:
    sums: dict[int, dict[str, DrafterTotals]] = {}
    for buckets in parts:
        for bucket_s, totals in buckets.items():
            bucket = sums.setdefault(bucket_s, {})
            for drafter_id, added in totals.items():
                bucket[drafter_id] = bucket[drafter_id] + added if drafter_id in bucket else added
    return sums


def _safe(part: str) -> str:
    # quote never writes "=", so a digest cannot be mistaken for a name; clients can send lone surrogates
    quoted = quote(part, safe="", errors="surrogatepass")
    if len(quoted) <= _MAX_PART_CHARS:
        return quoted
    return "=" + hashlib.sha256(part.encode("utf-8", "surrogatepass")).hexdigest()
