"""Sums over answers become a preference over drafters (design 7). Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hedgespec.errors import InvalidObservation
from hedgespec.store.record import DrafterTotals, PreferenceRecord

ALPHA = 1.0
"""Weight of the uniform preference, in answers."""

_TIE = 1e-9


@dataclass(frozen=True, slots=True)
class AnswerOutcome:
    """How the drafters would have fared on one answer.

    expected_passes: drafter id -> passes it alone would have needed; only drafters that were scored throughout
    num_tokens: tokens of the answer, the same for all
    num_conceded: drafters that had fallen so far behind that they were not scored to the end; they have lost
    """

    expected_passes: Mapping[str, float]
    num_tokens: int
    num_conceded: int = 0


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
    """Return what one answer adds to the sums. The drafters with the fewest passes share one win.

    A drafter without a competitor wins nothing: being the only one that was scored says nothing about being good.
    Raises InvalidObservation for passes that are not between 0 and the number of tokens.
    """
    passes = outcome.expected_passes
    for name, value in passes.items():
        if not (math.isfinite(value) and 0.0 <= value <= outcome.num_tokens * (1.0 + _TIE)):
            raise InvalidObservation(f"Drafter {name!r}: {value} expected passes for {outcome.num_tokens} tokens.")
    has_competition = len(passes) + outcome.num_conceded > 1
    fewest = min(passes.values(), default=0.0) * (1.0 + _TIE)
    winners = {name for name, value in passes.items() if value <= fewest} if has_competition else set()
    return {
        name: DrafterTotals(1.0 / len(winners) if name in winners else 0.0, float(value), outcome.num_tokens, 1)
        for name, value in passes.items()
    }
