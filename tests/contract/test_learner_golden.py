"""Fixed loss vectors and the weights they lead to, each checked against a second, slower computation."""

import math

import numpy as np
import pytest

from hedgespec.learners.normalhedge import solve_exponent
from hedgespec.learners.registry import make_learner

PRIOR = [0.5, 0.3, 0.2]
LOSSES = [[0.9, 0.2, 0.4], [0.7, 0.1, 0.3], [0.0, 0.6, 0.1], [0.8, 0.3, 0.3], [0.5, 0.5, 0.2]]

GOLDEN = {
    "hedge": [0.15778838821635732, 0.4045536599685885, 0.43765795181505424],
    "normalhedge": [0.0, 0.07148226278356244, 0.9285177372164376],
}


def hedge_by_hand() -> list[float]:
    """Textbook exponential weights in plain Python."""
    totals = [sum(row[i] for row in LOSSES) for i in range(3)]
    rate = math.sqrt(8 * math.log(3) / (len(LOSSES) + 1))
    raw = [p * math.exp(-rate * total) for p, total in zip(PRIOR, totals, strict=True)]
    return [value / sum(raw) for value in raw]


def normalhedge_weights_by_bisection(regret: list[float]) -> list[float]:
    """The rule as published, its scale c found by bisection on a bracket that surely holds it."""
    positive = [max(value, 0.0) for value in regret]
    if max(positive) == 0.0:
        return PRIOR
    low, high = 1e-4, max(positive) ** 2
    for _ in range(200):
        c = 0.5 * (low + high)
        total = sum(p * math.exp(min(r * r / (2 * c), 700.0)) for p, r in zip(PRIOR, positive, strict=True))
        low, high = (c, high) if total > math.e else (low, c)
    raw = [p * r / c * math.exp(r * r / (2 * c)) for p, r in zip(PRIOR, positive, strict=True)]
    return [value / sum(raw) for value in raw]


def normalhedge_by_hand() -> list[float]:
    regret = [0.0, 0.0, 0.0]
    for row in LOSSES:
        weights = normalhedge_weights_by_bisection(regret)
        mixture = sum(w * loss for w, loss in zip(weights, row, strict=True))
        regret = [r + mixture - loss for r, loss in zip(regret, row, strict=True)]
    return normalhedge_weights_by_bisection(regret)


@pytest.mark.parametrize(("name", "by_hand"), [("hedge", hedge_by_hand), ("normalhedge", normalhedge_by_hand)])
def test_golden_weights(name: str, by_hand) -> None:
    """The weights after five fixed losses are the recorded ones, and an independent computation agrees."""
    learner = make_learner(name)
    state = learner.init(np.array(PRIOR))
    for row in LOSSES:
        state = learner.update(state, np.array(row), np.ones(3, dtype=bool))
    np.testing.assert_allclose(learner.weights(state), GOLDEN[name], rtol=1e-12)
    np.testing.assert_allclose(by_hand(), GOLDEN[name], rtol=1e-9)


def test_newton_finds_the_root_that_bisection_finds() -> None:
    """Over 500 random instances, with priors down to 1e-12 and up to 1000 experts, both agree to 1e-12."""
    rng = np.random.default_rng(0)
    for _ in range(500):
        num_experts = int(rng.integers(1, 1000))
        prior = rng.dirichlet(np.full(num_experts, rng.choice([0.05, 1.0]))) + 1e-12
        prior /= prior.sum()
        squares = rng.random(num_experts) ** rng.choice([0.1, 1.0, 20.0]) * rng.integers(0, 2, num_experts)
        squares[rng.integers(num_experts)] = 1.0
        low, high = 0.5, 60.0
        for _ in range(100):
            middle = 0.5 * (low + high)
            value = math.log(float(np.sum(prior * np.exp(middle * squares))))
            low, high = (middle, high) if value < 1.0 else (low, middle)
        assert solve_exponent(squares, prior) == pytest.approx(low, rel=1e-12)


def test_a_known_scale_in_closed_form() -> None:
    """One expert with positive regret: prior * e^x + (1 - prior) = e gives x in closed form."""
    prior = np.array([0.25, 0.75])
    expected = math.log((math.e - 0.75) / 0.25)
    assert solve_exponent(np.array([1.0, 0.0]), prior) == pytest.approx(expected, rel=1e-14)
