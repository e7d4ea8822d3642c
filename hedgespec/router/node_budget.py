"""The node budget of a merged draft is divided here among the drafters that propose together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def split_nodes(weights: Sequence[float], num_nodes: int, capacity: int) -> list[int]:
    """Nodes per drafter, in proportion to the weights, as many as there are or as the drafters can use.

    weights: positive, heaviest first; capacity: nodes that one drafter can use at most, its surplus goes to the others.
    Whole nodes go by largest remainder, on ties to the heavier one; a drafter that gets none has 0.
    """
    shares = np.zeros(len(weights), dtype=np.int64)
    left, open_weights = min(num_nodes, capacity * len(weights)), np.asarray(weights, dtype=np.float64).copy()
    while left > 0 and open_weights.sum() > 0.0:
        exact = left * open_weights / open_weights.sum()
        whole = np.floor(exact).astype(np.int64)
        by_remainder = np.argsort(-(exact - whole), kind="stable")
        whole[by_remainder[: left - int(whole.sum())]] += 1
        given = np.minimum(whole, capacity - shares)
        shares += given
        left -= int(given.sum())
        open_weights[shares >= capacity] = 0.0  # what it could not take is divided again, among the others
    return [int(share) for share in shares]
