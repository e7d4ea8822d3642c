"""Learners keep claims beyond the common contract: losses turned against the learner, shifts, extreme states, growth rate.

Everything is drawn once with fixed seeds, so nothing here can fail by chance after it has passed.
"""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from hedgespec.bench.learner import batched_weights, measure_growth
from hedgespec.catalogue import LEARNERS
from hedgespec.learning.build import make_learner
from hedgespec.learning.learners.learner import Learner
from tests.hindsight import best_shifting

SHIFTING = ("fixed_share", "discounted", "adaptive")
SUMS = ("regret", "cumulative_losses", "movement", "variance", "gap")


@pytest.fixture(params=LEARNERS.names())
def learner(request: pytest.FixtureRequest) -> Learner:
    return make_learner(request.param)


def uniform(num_experts: int) -> np.ndarray:
    return np.full(num_experts, 1.0 / num_experts)


def total_loss(learner: Learner, losses: np.ndarray) -> float:
    state, total = learner.init(uniform(losses.shape[1])), 0.0
    awake = np.ones(losses.shape[1], dtype=bool)
    for row in losses:
        total += float(learner.weights(state) @ row)
        state = learner.update(state, row, awake)
    return total


@pytest.mark.parametrize(("num_experts", "horizon"), [(2, 2000), (8, 1000), (32, 300)])
@pytest.mark.parametrize("turned", ["above the mean", "heaviest"])
def test_losses_turned_against_the_mixture_stay_below_the_bound(
    learner: Learner, num_experts: int, horizon: int, turned: str
) -> None:
    """An adversary who sees the weights, and hits the trusted experts, gets no more than the bound."""
    state, total, totals = learner.init(uniform(num_experts)), 0.0, np.zeros(num_experts)
    rng = np.random.default_rng(0)
    for _ in range(horizon):
        # a little noise breaks ties in another way each time
        seen = learner.weights(state) + 1e-12 * rng.random(num_experts)
        row = (seen >= (seen.mean() if turned == "above the mean" else seen.max())).astype(float)
        total += float(learner.weights(state) @ row)
        totals += row
        state = learner.update(state, row, np.ones(num_experts, dtype=bool))
    assert total - totals.min() <= learner.regret_bound(horizon, 1.0 / num_experts, num_experts)


def segments(rng: np.random.Generator, num_experts: int, lengths: tuple[int, ...]) -> np.ndarray:
    """Losses in which another expert is clearly best in each segment."""
    rows = []
    for index, length in enumerate(lengths):
        rates = np.full(num_experts, 0.6)
        rates[index % num_experts] = 0.2
        rows.append((rng.random((length, num_experts)) < rates).astype(float))
    return np.concatenate(rows)


@pytest.mark.parametrize("name", SHIFTING)
@pytest.mark.parametrize("lengths", [(256,), (128, 128), (64, 64, 64, 64), (300, 20, 300)])
def test_regret_against_a_changing_best_expert_is_below_the_shifting_bound(name: str, lengths: tuple[int, ...]) -> None:
    """The comparator may change as often as the segments do, and is chosen in hindsight by dynamic programming."""
    learner = make_learner(name)
    for seed in range(3):
        losses = segments(np.random.default_rng(seed), 8, lengths)
        num_switches = len(lengths) - 1
        bound = learner.shifting_bound(len(losses), num_switches, 1.0 / 8, 8)
        assert total_loss(learner, losses) - best_shifting(losses, num_switches) <= bound


@pytest.mark.parametrize("name", SHIFTING)
def test_learners_for_shifts_lose_less_to_them(name: str) -> None:
    """Averaged over 10 answers of 128 + 128 tokens, the excess over the switching oracle is below 0.75 of NormalHedge's."""
    answers = [segments(np.random.default_rng(seed), 8, (128, 128)) for seed in range(10)]
    hindsight = sum(best_shifting(losses, 1) for losses in answers)
    mine = sum(total_loss(make_learner(name), losses) for losses in answers) - hindsight
    theirs = sum(total_loss(make_learner("normalhedge"), losses) for losses in answers) - hindsight
    assert mine < 0.75 * theirs


def test_adaptive_costs_almost_nothing_on_a_stationary_answer() -> None:
    """Averaged over 20 answers of 256 tokens without a shift, its loss is within 3 % of NormalHedge's."""
    answers = [segments(np.random.default_rng(seed), 8, (256,)) for seed in range(20)]
    mine, theirs = (sum(total_loss(make_learner(n), losses) for losses in answers) for n in ("adaptive", "normalhedge"))
    assert mine < 1.03 * theirs


def test_easy_losses_cost_second_order_learners_less_than_the_worst_case() -> None:
    """With one expert that never loses, AdaHedge, AdaNormalHedge and NormalHedge stop paying: T = 2000 costs what 200 do."""
    losses = (np.random.default_rng(0).random((2000, 8)) < 0.5).astype(float)
    losses[:, 3] = 0.0
    for name in ("adahedge", "adanormalhedge", "normalhedge"):
        assert total_loss(make_learner(name), losses) - total_loss(make_learner(name), losses[:200]) < 0.5


def test_normalhedge_regret_grows_like_the_root_of_the_horizon() -> None:
    """Fair coins, 8 experts, 200 seeds: the log-log slope of the mean regret from 2^8 to 2^12 is at most 0.55.

    Its standard error is 0.008, so a learner with slope 0.5 fails once in 10^9 draws. `hedgespec bench learner --slope` goes
    on to 2^16.
    """
    growth = measure_growth(8, 200, [2**power for power in range(8, 13)])
    assert growth.standard_error < 0.02
    assert 0.45 < growth.slope <= 0.55


def test_the_batched_normalhedge_of_the_benchmark_is_the_learner() -> None:
    """The growth above is measured on many runs in step; its weights are those of the learner, also without evidence."""
    rng = np.random.default_rng(3)
    states = [make_learner("normalhedge").init(uniform(8))] * 20
    for _ in range(200):
        regret = np.array([state.regret for state in states])
        np.testing.assert_allclose(batched_weights(regret), [state.weights for state in states], rtol=1e-8, atol=1e-12)
        rows = rng.integers(0, 2, (20, 8)).astype(float)
        all_awake = np.ones(8, dtype=bool)
        states = [make_learner("normalhedge").update(*pair, all_awake) for pair in zip(states, rows, strict=True)]


def scaled(state: Any, factor: float) -> Any:
    """The state as if there had been `factor` times the evidence."""
    changes: dict[str, Any] = {}
    for field in fields(state):
        value = getattr(state, field.name)
        if field.name in SUMS:
            changes[field.name] = value * factor
        elif field.name == "num_updates":
            changes[field.name] = int(value * factor)
        elif field.name == "base":
            changes[field.name] = scaled(value, factor)
    return replace(state, **changes)


@pytest.mark.parametrize("factor", [1e-9, 1e-3, 1e2, 1e4])
def test_weights_stay_a_distribution_under_extreme_evidence(learner: Learner, factor: float) -> None:
    """100 updates scaled down to rounding and up to a million updates' worth: finite weights that can still learn."""
    losses = np.random.default_rng(1).random((100, 6)) * np.linspace(0.2, 1.0, 6)
    state = learner.init(uniform(6))
    for row in losses:
        state = learner.update(state, row, np.ones(6, dtype=bool))
    state = scaled(state, factor)
    for row in (np.zeros(6), np.ones(6), losses[0], 1.0 - losses[0]):
        state = learner.update(state, row, np.ones(6, dtype=bool))
        weights = learner.weights(state)
        assert np.isfinite(weights).all()
        assert (weights >= 0).all()
        assert weights.sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("loss", [0.0, 1.0])
def test_equal_extreme_losses_move_nothing(learner: Learner, loss: float) -> None:
    """All-zero and all-one losses are no evidence for or against any expert."""
    state = first = learner.init(np.array([0.2, 0.3, 0.5]))
    for _ in range(300):
        state = learner.update(state, np.full(3, loss), np.ones(3, dtype=bool))
    np.testing.assert_allclose(learner.weights(state), learner.weights(first), atol=1e-6)


@pytest.mark.parametrize("prior", [[1e-12, 1.0], [1e-300, 1.0], [1.0, 1e300]])
def test_a_tiny_prior_is_finite_work(learner: Learner, prior: list) -> None:
    """Mass as small as floats allow neither overflows nor divides by zero, whichever expert is better."""
    for better in (0, 1):
        state = learner.init(np.array(prior))
        for _ in range(200):
            row = np.array([float(better == 1), float(better == 0)])
            state = learner.update(state, row, np.ones(2, dtype=bool))
        assert learner.weights(state).sum() == pytest.approx(1.0, abs=1e-12)
        assert np.isfinite(learner.weights(state)).all()


def test_an_update_neither_keeps_nor_changes_what_it_is_given(learner: Learner) -> None:
    """The caller may write into its loss vector and mask afterwards."""
    losses, awake = np.array([0.2, 0.9, 0.4]), np.ones(3, dtype=bool)
    state = learner.update(learner.init(uniform(3)), losses, awake)
    before = learner.weights(state).copy()
    np.testing.assert_array_equal(losses, [0.2, 0.9, 0.4])
    losses[:], awake[:] = 1.0, False
    np.testing.assert_array_equal(learner.weights(state), before)


def test_the_switching_hindsight_agrees_with_brute_force() -> None:
    """The best switching expert, over every sequence of three experts and six positions."""
    losses = np.random.default_rng(2).random((6, 3))
    paths = np.stack(np.meshgrid(*[np.arange(3)] * 6, indexing="ij"), -1).reshape(-1, 6)
    sums = losses[np.arange(6), paths].sum(axis=1)
    switches = (np.diff(paths, axis=1) != 0).sum(axis=1)
    for allowed in range(6):
        assert best_shifting(losses, allowed) == pytest.approx(sums[switches <= allowed].min())
