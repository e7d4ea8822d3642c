"""Measure what a learner costs per verified position, and how NormalHedge's regret grows (`hedgespec bench learner`)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hedgespec.catalogue import BANDITS, LEARNERS
from hedgespec.learning.build import make_learner

Floats = NDArray[np.float64]

NAMES = (*LEARNERS.names(), *BANDITS.names())

ANSWER = 256
"""Positions per answer: the learners start afresh after each answer, because some are cheaper at the start."""


@dataclass(frozen=True, slots=True)
class LearnerTime:
    """Microseconds for one `weights` and one `update` over num_experts: median, 10th and 90th percentile."""

    learner: str
    num_experts: int
    median_us: float
    low_us: float
    high_us: float


def time_learner(name: str, num_experts: int, repeats: int) -> LearnerTime:
    """Time a learner on random losses of experts of different quality; all are awake, for a bandit only the one it plays."""
    learner = make_learner(name)
    losses = np.random.default_rng(0).random((ANSWER, num_experts)) * np.linspace(0.5, 1.0, num_experts)
    all_awake, state = np.ones(num_experts, dtype=bool), learner.init(np.full(num_experts, 1.0 / num_experts))
    times = np.empty(repeats)
    for repeat in range(repeats):
        if repeat % ANSWER == 0:
            state = learner.init(np.full(num_experts, 1.0 / num_experts))
        row = losses[repeat % ANSWER]
        awake = all_awake
        if name in BANDITS:
            awake = np.arange(num_experts) == learner.weights(state).argmax()
        started = time.perf_counter()
        learner.weights(state)
        state = learner.update(state, row, awake)
        times[repeat] = time.perf_counter() - started
    low, median, high = (float(1e6 * value) for value in np.quantile(times, [0.1, 0.5, 0.9]))
    return LearnerTime(name, num_experts, median, low, high)


@dataclass(frozen=True, slots=True)
class RegretGrowth:
    """The mean regret of NormalHedge on fair coins at each horizon, over seeds, and the slope of its log-log line.

    standard_error: of the slope, by resampling seeds
    """

    num_experts: int
    num_seeds: int
    horizons: tuple[int, ...]
    mean_regret: tuple[float, ...]
    slope: float
    standard_error: float


def measure_growth(
    num_experts: int, num_seeds: int, horizons: Sequence[int], advance: Callable[[], None] = lambda: None
) -> RegretGrowth:
    """Measure the regret on independent losses that are 0 or 1 with equal probability.

    horizons: numbers of updates, rising. advance: called at each horizon.
    """
    regrets = _regrets(num_experts, num_seeds, horizons, advance)
    log_horizons = np.log(np.asarray(horizons, dtype=np.float64))

    def slope(rows: Floats) -> float:
        return float(np.polyfit(log_horizons, np.log(rows.mean(axis=0)), 1)[0])

    picks = np.random.default_rng(1).integers(0, num_seeds, (200, num_seeds))
    spread = float(np.std([slope(regrets[pick]) for pick in picks]))
    means = tuple(float(mean) for mean in regrets.mean(axis=0))
    return RegretGrowth(num_experts, num_seeds, tuple(horizons), means, slope(regrets), spread)


def _regrets(num_experts: int, num_seeds: int, horizons: Sequence[int], advance: Callable[[], None]) -> Floats:
    """Return NormalHedge's regret to the best expert from a uniform prior, [num_seeds, num_horizons]; seeds run in step."""
    rng = np.random.default_rng(0)
    regret = np.zeros((num_seeds, num_experts))
    at_horizon: list[Floats] = []
    for position in range(1, horizons[-1] + 1):
        losses = rng.integers(0, 2, (num_seeds, num_experts)).astype(np.float64)
        weights = batched_weights(regret)
        regret += (weights * losses).sum(axis=1, keepdims=True) - losses
        if position == horizons[len(at_horizon)]:
            at_horizon.append(regret.max(axis=1))
            advance()
    return np.stack(at_horizon, axis=1)


def batched_weights(regret: Floats) -> Floats:
    """Return NormalHedge's weights under the uniform prior for every row of regret, both [num_rows, num_experts]."""
    num_experts = regret.shape[1]
    positive = np.maximum(regret, 0.0)
    largest = positive.max(axis=1, keepdims=True)
    # without a positive regret all weights are equal
    ratios = np.where(largest <= 1e-9, 1.0, positive / np.maximum(largest, 1e-9))
    shifted = ratios * ratios - 1.0
    x = np.full((len(regret), 1), math.log((math.e - 1.0) * num_experts + 1.0))
    # the log of the sum is convex and rising, so Newton from the right end needs no safeguard
    for _ in range(7):
        terms = np.exp(x * shifted)
        total = terms.mean(axis=1, keepdims=True)
        slope = 1.0 + (terms * shifted).mean(axis=1, keepdims=True) / total
        x -= (x + np.log(total) - 1.0) / np.maximum(slope, 1e-12)
    weights = ratios * np.exp(x * shifted)
    normalised: Floats = weights / weights.sum(axis=1, keepdims=True)
    return normalised
