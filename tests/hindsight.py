"""Hindsight losses: the summed loss of the best sequence of experts, against which regret is measured."""

from __future__ import annotations

import numpy as np


def best_shifting(losses: np.ndarray, num_switches: int) -> float:
    """Return the summed loss of the best sequence of experts that changes at most num_switches times.

    losses: [num_positions, num_experts]. By dynamic programming over (switches left, expert).
    """
    best = np.zeros((num_switches + 1, losses.shape[1]))
    for row in losses:
        # a change to any expert costs one switch and starts from the best that had one fewer
        best[1:] = np.minimum(best[1:], best[:-1].min(axis=1, keepdims=True))
        best += row
    return float(best.min())
