"""Fixed loss vectors and the weights they lead to, each checked against a second, slower computation."""

import math

import numpy as np
import pytest
from scipy import integrate, special

from hedgespec.catalogue import LEARNERS
from hedgespec.learning.build import make_learner
from hedgespec.learning.learners.normalhedge import NormalHedge, solve_exponent
from hedgespec.learning.learners.squint import log_evidence

PRIOR = [0.5, 0.3, 0.2]
LOSSES = [[0.9, 0.2, 0.4], [0.7, 0.1, 0.3], [0.0, 0.6, 0.1], [0.8, 0.3, 0.3], [0.5, 0.5, 0.2]]

GOLDEN = {
    "normalhedge": [0.0, 0.07148226278356244, 0.9285177372164376],
    "hedge": [0.15778838821635732, 0.4045536599685885, 0.43765795181505424],
    "hedge_fixed": [0.43717038287791504, 0.327616251537289, 0.23521336558479594],
    "adahedge": [0.0611289296764608, 0.38224430225802125, 0.5566267680655179],
    "adanormalhedge": [0.0037474819379860916, 0.41545858810395725, 0.5807939299580567],
    "squint": [0.4169147391221468, 0.33162651110290814, 0.2514587497749451],
    "fixed_share": [0.2868973714861752, 0.37995785041132923, 0.33314477810249565],
    "discounted": [0.0, 0.03987517019499254, 0.9601248298050075],
    "adaptive": [0.0, 0.06449375199341245, 0.9355062480065875],
    "safe": [0.07812817402811933, 0.06589748411688452, 0.8559743418549962],
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


def normalhedge_by_hand(discount: float = 1.0, floor: float = -math.inf) -> list[float]:
    regret = [0.0, 0.0, 0.0]
    for row in LOSSES:
        mixture = dot(normalhedge_weights_by_bisection(regret), row)
        regret = [max(discount * r + mixture - loss, floor) for r, loss in zip(regret, row, strict=True)]
    return normalhedge_weights_by_bisection(regret)


def dot(weights: list[float], row: list[float]) -> float:
    return sum(w * loss for w, loss in zip(weights, row, strict=True))


def normalised(raw: list[float]) -> list[float]:
    return [value / sum(raw) for value in raw]


def hedge_fixed_by_hand() -> list[float]:
    rate = math.sqrt(8 * math.log(3) / 256)
    return normalised([p * math.exp(-rate * sum(row[i] for row in LOSSES)) for i, p in enumerate(PRIOR)])


def adahedge_by_hand() -> list[float]:
    """AdaHedge from cumulative losses and the mix loss as a difference of potentials, as the paper has it."""
    totals, gap = [0.0, 0.0, 0.0], 0.0

    def weights() -> list[float]:
        if gap == 0.0:
            return normalised([p * (total == min(totals)) for p, total in zip(PRIOR, totals, strict=True)])
        rate = math.log(3) / gap
        return normalised([p * math.exp(-rate * total) for p, total in zip(PRIOR, totals, strict=True)])

    def potential(sums: list[float]) -> float:
        if gap == 0.0:
            return min(sums)
        rate = math.log(3) / gap
        return -math.log(dot(PRIOR, [math.exp(-rate * total) for total in sums])) / rate

    for row in LOSSES:
        after = [total + loss for total, loss in zip(totals, row, strict=True)]
        step = dot(weights(), row) - (potential(after) - potential(totals))
        totals, gap = after, gap + step
    return weights()


def second_order(evidence) -> list[float]:
    """Play with w_i ~ prior_i evidence(R_i, C_i, V_i), which is what AdaNormalHedge and Squint have in common."""
    regret, movement, variance = ([0.0] * 3 for _ in range(3))
    weights = PRIOR
    for row in LOSSES:
        mixture = dot(weights, row)
        for i, loss in enumerate(row):
            regret[i] += mixture - loss
            movement[i] += abs(mixture - loss)
            variance[i] += (mixture - loss) ** 2
        weights = normalised([p * evidence(*sums) for p, *sums in zip(PRIOR, regret, movement, variance, strict=True)])
    return weights


def adanormalhedge_by_hand() -> list[float]:
    def phi(regret: float, movement: float) -> float:
        return math.exp(max(regret, 0.0) ** 2 / (3 * movement))

    return second_order(lambda r, c, v: 0.5 * (phi(r + 1, c + 1) - phi(r - 1, c + 1)))


def squint_by_hand() -> list[float]:
    """The integral by adaptive quadrature."""
    return second_order(lambda r, c, v: integrate.quad(lambda x: math.exp(x * r - x * x * v), 0, 0.5, epsabs=1e-13)[0])


def fixed_share_by_hand() -> list[float]:
    """The forward algorithm of a hidden Markov chain that restarts from the prior with probability `share`."""
    share = 2 / 256
    entropy = -2 * math.log(share) - 254 * math.log(1 - share)
    rate = math.sqrt(8 * (3 * math.log(3) + entropy) / 256)
    belief = PRIOR
    for row in LOSSES:
        posterior = normalised([w * math.exp(-rate * loss) for w, loss in zip(belief, row, strict=True)])
        belief = [(1 - share) * w + share * p for w, p in zip(posterior, PRIOR, strict=True)]
    return belief


def safe_by_hand() -> list[float]:
    """Baseline 0, three rounds of capital in four equal parts that stake 1/2, 1/4, 1/8 and 1/16 of themselves."""
    parts = [(fraction, 0.75) for fraction in (1 / 2, 1 / 4, 1 / 8, 1 / 16)]
    regret = [0.0, 0.0, 0.0]
    for row in LOSSES:
        mixture = dot(normalhedge_weights_by_bisection(regret), row)
        staked = sum(fraction * capital for fraction, capital in parts)
        gain = (row[0] - mixture) * min(1.0, 1.0 / staked)
        parts = [(fraction, capital * (1 + fraction * gain)) for fraction, capital in parts]
        regret = [r + mixture - loss for r, loss in zip(regret, row, strict=True)]
    stake = min(1.0, sum(fraction * capital for fraction, capital in parts))
    weights = [stake * w for w in normalhedge_weights_by_bisection(regret)]
    return [weights[0] + 1 - stake, *weights[1:]]


BY_HAND = {
    "normalhedge": normalhedge_by_hand,
    "hedge": hedge_by_hand,
    "hedge_fixed": hedge_fixed_by_hand,
    "adahedge": adahedge_by_hand,
    "adanormalhedge": adanormalhedge_by_hand,
    "squint": squint_by_hand,
    "fixed_share": fixed_share_by_hand,
    "discounted": lambda: normalhedge_by_hand(0.95),
    "adaptive": lambda: normalhedge_by_hand(0.99, -2.0),
    "safe": safe_by_hand,
}


def test_every_learner_has_a_golden_vector() -> None:
    """A new learner comes with a second computation of its weights."""
    assert set(BY_HAND) == set(GOLDEN) == set(LEARNERS.names())


@pytest.mark.parametrize(("name", "by_hand"), list(BY_HAND.items()))
def test_golden_weights(name: str, by_hand) -> None:
    """The weights after five fixed losses are the recorded ones, and an independent computation agrees."""
    learner = make_learner(name)
    state = learner.init(np.array(PRIOR))
    for row in LOSSES:
        state = learner.update(state, np.array(row), np.ones(3, dtype=bool))
    np.testing.assert_allclose(learner.weights(state), GOLDEN[name], rtol=1e-12)
    np.testing.assert_allclose(by_hand(), GOLDEN[name], rtol=1e-9)


def test_newton_finds_the_root_that_bisection_finds() -> None:
    """Both roots agree to 1e-12 over 500 random instances, with priors down to 1e-12 and up to 1000 experts."""
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
        assert solve_exponent(squares.tolist(), prior.tolist()) == pytest.approx(low, rel=1e-12)


def test_a_known_scale_in_closed_form() -> None:
    """One expert with positive regret: prior * e^x + (1 - prior) = e gives x in closed form."""
    prior = np.array([0.25, 0.75])
    expected = math.log((math.e - 0.75) / 0.25)
    assert solve_exponent([1.0, 0.0], prior.tolist()) == pytest.approx(expected, rel=1e-14)


def test_the_cap_on_debts_is_reached_and_matters() -> None:
    """After 100 bad losses an expert stands at the cap, and two good phases later it leads; uncapped it does not."""
    prior, all_awake = np.full(2, 0.5), np.ones(2, dtype=bool)
    capped, free = (NormalHedge(0.999, debt) for debt in (4.0, math.inf))
    states = [learner.init(prior) for learner in (capped, free)]
    for row in [[0.0, 0.5]] * 100 + [[0.5, 0.0]] * 35:
        states = [m.update(s, np.array(row), all_awake) for m, s in zip((capped, free), states, strict=True)]
        assert states[0].regret.min() >= -4.0
    assert states[0].weights[1] > 0.9
    assert states[1].weights[1] < 0.1


def test_squints_integral_in_log_space_is_the_closed_form() -> None:
    """The closed form is computed with erf where that is accurate, and with erfcx where it is not: R^2 / V from 0 to
    10^6, V from 0 to 10^6."""
    rng = np.random.default_rng(0)
    variance = 10.0 ** rng.uniform(-1, 6, 2000)
    regret = rng.uniform(-1.0, 1.0, 2000) * variance
    root = np.sqrt(variance)
    upper, lower = regret / (2 * root), (regret - variance) / (2 * root)
    # three ways to write exp(u^2) (erf(u) - erf(l)) without cancellation: both negative, both positive, one of each
    with np.errstate(all="ignore"):
        shift = upper**2 - lower**2
        negative = np.log(special.erfcx(-upper) - special.erfcx(-lower) * np.exp(shift))
        positive = shift + np.log(special.erfcx(lower) - special.erfcx(upper) * np.exp(-shift))
        mixed = upper**2 + np.log(special.erf(upper) - special.erf(lower))
    closed = np.where(upper < 0, negative, np.where(lower > 0, positive, mixed)) + np.log(
        math.sqrt(math.pi) / (2 * root)
    )
    np.testing.assert_allclose(log_evidence(regret, variance), closed, rtol=1e-9, atol=1e-9)
    # and without variance the integrand is an exponential
    slopes = np.array([-1e6, -3.0, 2.0, 1e3])
    expected = [math.log((1 - math.exp(-abs(r) / 2)) / abs(r)) + max(r, 0) / 2 for r in slopes]
    np.testing.assert_allclose(log_evidence(slopes, np.zeros(4)), expected, rtol=1e-12)
    assert log_evidence(np.zeros(1), np.zeros(1))[0] == pytest.approx(math.log(0.5))
