"""What could have been known in hindsight: the yardsticks that regret is measured against. Functions, not learners."""

from __future__ import annotations

import numpy as np

from hedgespec.errors import InvalidObservation
from hedgespec.learning.learners.learner import Floats


def best_fixed(losses: Floats) -> tuple[int, float]:
    """Index and summed loss of the best single expert. losses: [num_positions, num_experts]; ties go to the first."""
    totals = _checked(losses).sum(axis=0)
    index = int(totals.argmin())
    return index, float(totals[index])


def best_shifting(losses: Floats, num_switches: int) -> float:
    """Summed loss of the best sequence of experts that changes at most num_switches times.

    losses: [num_positions, num_experts]. By dynamic programming over (switches left, expert).
    """
    if num_switches < 0:
        raise InvalidObservation(f"The number of switches is at least 0, got {num_switches}.")
    checked = _checked(losses)
    best = np.zeros((num_switches + 1, checked.shape[1]))
    for row in checked:
        # a change to any expert costs one switch and starts from the best that had one fewer
        best[1:] = np.minimum(best[1:], best[:-1].min(axis=1, keepdims=True))
        best += row
    return float(best.min())


def _checked(losses: Floats) -> Floats:
    checked = np.asarray(losses, dtype=np.float64)
    if checked.ndim != 2 or checked.shape[1] == 0 or not np.isfinite(checked).all():
        raise InvalidObservation(f"Losses are finite numbers [num_positions, num_experts], got shape {checked.shape}.")
    return checked
