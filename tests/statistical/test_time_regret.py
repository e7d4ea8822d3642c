"""Objective `time` keeps the learners' regret bounds in seconds: exactly when times are fixed, with a stated price else.

With fixed times the losses are u * s_i / S with S the largest, so the mixture's seconds are within S * B(T) of the best
expert's, B the learner's bound. When times drift, S moves: the regret in seconds is sum S_t r_t with every |r_t| <= 1, hence
at most S_min * B(T) + sum_t (S_t - S_min). Where the weights are computed with estimates e_i(t) of times s_i(t), each
position adds at most twice the largest |e_i - s_i|. Seeds are fixed: nothing here can fail by chance after it has passed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hedgespec.catalogue import LEARNERS
from hedgespec.learning.build import make_learner
from hedgespec.learning.feedback import make_feedback
from hedgespec.learning.learners.learner import Learner
from hedgespec.types import Scores

DEPTH, NUM_DRAFTERS, NUM_TOKENS = 3, 4, 300
NUM_EXPERTS = NUM_DRAFTERS + 1
FIXED = np.array([0.009, 0.012, 0.007, 0.015, 0.006])

Times = Callable[[int], np.ndarray]


def drifting(position: int) -> np.ndarray:
    """The load rises by half over the answer, the dear drafters' most."""
    return FIXED * (
        1.0 + 0.5 * position / NUM_TOKENS * np.linspace(1.0, 0.5, NUM_EXPERTS)[np.argsort(-FIXED).argsort()]
    )


def steady(seed: int) -> np.ndarray:
    """Hits [num_drafters, num_tokens, depth] of drafters that differ in how often they are right."""
    rng = np.random.default_rng(seed)
    return (rng.random((NUM_DRAFTERS, NUM_TOKENS, DEPTH)) < rng.uniform(0.1, 0.9, (NUM_DRAFTERS, 1, 1))).astype(
        np.float32
    )


def turning(seed: int) -> np.ndarray:
    """Another drafter is right in every stretch of 25 tokens, and in some stretches none."""
    rng = np.random.default_rng(seed)
    owners = np.repeat(rng.integers(0, NUM_DRAFTERS + 1, NUM_TOKENS // 25), 25)
    return np.repeat((owners == np.arange(NUM_DRAFTERS)[:, None])[..., None], DEPTH, axis=2).astype(np.float32)


def played(learner: Learner, hits: np.ndarray, times: Times, estimates: Times) -> tuple[float, np.ndarray, float]:
    """Seconds of the mixture and of every expert [num_experts], u times their true seconds, and sum_t (S_t - S_min).

    The learner sees losses that are made with the estimates; what is charged is what the rounds truly take.
    """
    state = learner.init(np.full(NUM_EXPERTS, 1.0 / NUM_EXPERTS))
    now = 0
    feedback = make_feedback("time", NUM_DRAFTERS, DEPTH, 8, seconds=lambda experts: estimates(now))
    mixture, experts, scales = 0.0, np.zeros(NUM_EXPERTS), []
    for now in range(NUM_TOKENS):
        feedback.verified(1, now)
        for drafter in range(NUM_DRAFTERS):
            feedback.push(drafter, Scores(now, hits[drafter, now : now + 1]))
        ((losses, awake),) = feedback.closed_losses(now)
        assert losses.min() >= 0.0
        assert losses.max() <= 1.0
        estimated = np.minimum(estimates(now), (np.append(np.full(NUM_DRAFTERS, DEPTH), 0) + 1) * estimates(now)[-1])
        truth = losses * estimated.max() / estimated * times(now)
        mixture += float(learner.weights(state) @ truth)
        experts += truth
        scales.append(estimated.max())
        state = learner.update(state, losses, awake)
    return mixture, experts, float(np.sum(scales) - NUM_TOKENS * min(scales))


@pytest.mark.parametrize("name", LEARNERS.names())
@pytest.mark.parametrize("hits", [steady, turning])
def test_seconds_stay_within_the_scaled_bound_when_times_are_fixed(
    name: str, hits: Callable[[int], np.ndarray]
) -> None:
    learner = make_learner(name)
    bound = learner.regret_bound(NUM_TOKENS, 1.0 / NUM_EXPERTS, NUM_EXPERTS)
    for seed in range(4):
        mixture, experts, _ = played(learner, hits(seed), lambda _: FIXED, lambda _: FIXED)
        assert mixture - experts.min() <= FIXED.max() * bound


@pytest.mark.parametrize("name", LEARNERS.names())
@pytest.mark.parametrize("hits", [steady, turning])
def test_times_that_drift_cost_what_the_scale_moves(name: str, hits: Callable[[int], np.ndarray]) -> None:
    learner = make_learner(name)
    bound = learner.regret_bound(NUM_TOKENS, 1.0 / NUM_EXPERTS, NUM_EXPERTS)
    for seed in range(4):
        mixture, experts, moved = played(learner, hits(seed), drifting, drifting)
        assert moved > 0.0
        assert mixture - experts.min() <= drifting(0).max() * bound + moved


@pytest.mark.parametrize("name", ["adaptive", "normalhedge"])
def test_estimates_that_lag_cost_at_most_twice_their_error(name: str) -> None:
    """Times as they were 40 positions ago."""
    learner = make_learner(name)
    bound = learner.regret_bound(NUM_TOKENS, 1.0 / NUM_EXPERTS, NUM_EXPERTS)

    def late(position: int) -> np.ndarray:
        return drifting(max(position - 40, 0))

    errors = sum(2.0 * np.abs(drifting(t) - late(t)).max() for t in range(NUM_TOKENS))
    for seed in range(4):
        mixture, experts, moved = played(learner, turning(seed), drifting, late)
        assert mixture - experts.min() <= late(0).max() * bound + moved + errors


def test_the_fastest_wins_although_another_needs_fewer_passes() -> None:
    """Drafter 3 is right at every depth and takes twice as long as drafter 2, which is right at depths 1 and 2."""
    hits = np.zeros((NUM_DRAFTERS, NUM_TOKENS, DEPTH), np.float32)
    hits[3] = 1.0
    hits[2, :, :2] = 1.0
    for name in ("adaptive", "normalhedge"):
        mixture, experts, _ = played(make_learner(name), hits, lambda _: FIXED, lambda _: FIXED)
        assert experts.argmin() == 2
        assert mixture < 1.05 * experts[2]


def test_no_speculation_wins_on_text_that_no_drafter_foresees() -> None:
    mixture, experts, _ = played(
        make_learner("adaptive"),
        np.zeros((NUM_DRAFTERS, NUM_TOKENS, DEPTH), np.float32),
        lambda _: FIXED,
        lambda _: FIXED,
    )
    assert experts.argmin() == NUM_EXPERTS - 1
    assert mixture < 1.03 * experts[-1]
