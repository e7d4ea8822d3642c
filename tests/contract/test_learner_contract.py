"""One suite that every learner passes: regret, priors, absent experts, pure updates.

Loss sequences are drawn once with fixed seeds, so nothing here can fail by chance after it has passed.
"""

import numpy as np
import pytest

from hedgespec.catalogue import LEARNERS
from hedgespec.errors import ConfigError, InvalidObservation
from hedgespec.learning.build import make_learner
from hedgespec.learning.learners.learner import Learner
from hedgespec.learning.prior import mixed_prior

HORIZONS = (1, 10, 300, 2000)
NUM_EXPERTS = (2, 8, 32)


@pytest.fixture(params=LEARNERS.names())
def learner(request: pytest.FixtureRequest) -> Learner:
    return make_learner(request.param)


@pytest.fixture(params=[name for name in LEARNERS.names() if name != "safe"])
def free_learner(request: pytest.FixtureRequest) -> Learner:
    """Every learner whose start is the prior alone; `safe` leans towards its baseline (test_learner_safe.py)."""
    return make_learner(request.param)


def uniform(num_experts: int) -> np.ndarray:
    return np.full(num_experts, 1.0 / num_experts)


def play(learner: Learner, losses: np.ndarray, prior: np.ndarray, delay: int = 0) -> tuple[float, object]:
    """Summed loss of the mixture when each loss vector arrives `delay` positions late; and the final state."""
    state, total = learner.init(prior), 0.0
    awake = np.ones(losses.shape[1], dtype=bool)
    for position, row in enumerate(losses):
        total += float(learner.weights(state) @ row)
        if position >= delay:
            state = learner.update(state, losses[position - delay], awake)
    return total, state


def stochastic(rng: np.random.Generator, horizon: int, num_experts: int) -> np.ndarray:
    return (rng.random((horizon, num_experts)) < rng.uniform(0.2, 0.6, num_experts)).astype(float)


def walks(rng: np.random.Generator, horizon: int, num_experts: int) -> np.ndarray:
    """Fair coins: every regret is a random walk, the hardest case for full information up to constants."""
    return (rng.random((horizon, num_experts)) < 0.5).astype(float)


def alternating_leader(rng: np.random.Generator, horizon: int, num_experts: int) -> np.ndarray:
    """Ruins follow-the-leader: the leader always loses next."""
    losses = ((np.arange(horizon)[:, None] + np.arange(num_experts)) % 2).astype(float)
    losses[0] *= 0.5
    return losses


def shifting_irrelevant(rng: np.random.Generator, horizon: int, num_experts: int) -> np.ndarray:
    """A common difficulty that moves over the answer must not be mistaken for skill."""
    difficulty = 0.25 * (1.0 + np.sin(np.arange(horizon) / 40.0))[:, None]
    return difficulty + 0.5 * stochastic(rng, horizon, num_experts)


SEQUENCES = (stochastic, walks, alternating_leader, shifting_irrelevant)


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_regret_stays_below_the_stated_bound(learner: Learner, sequence) -> None:
    """The mixture is within regret_bound of the best expert on every sequence, for every horizon."""
    rng = np.random.default_rng(1)
    for num_experts in NUM_EXPERTS:
        for horizon in HORIZONS:
            losses = sequence(rng, horizon, num_experts)
            total, _ = play(learner, losses, uniform(num_experts))
            bound = learner.regret_bound(horizon, 1.0 / num_experts, num_experts)
            assert total - losses.sum(axis=0).min() <= bound, (num_experts, horizon)


def test_the_bound_says_something(learner: Learner) -> None:
    """Following the leader breaks the bound on the sequence that ruins it, so the test above can fail."""
    losses = alternating_leader(np.random.default_rng(0), 2000, 2)
    totals, followed = np.zeros(2), 0.0
    for row in losses:
        followed += row[totals.argmin()]
        totals += row
    assert followed - totals.min() > learner.regret_bound(2000, 0.5, 2)


@pytest.mark.parametrize("delay", [1, 10, 40])
@pytest.mark.parametrize("sequence", SEQUENCES)
def test_delayed_losses_cost_at_most_the_root_of_the_delay(learner: Learner, sequence, delay: int) -> None:
    """Updating on arrival keeps the regret below sqrt(delay + 1) times the bound, plus the delay itself."""
    losses = sequence(np.random.default_rng(2), 600, 8)
    total, _ = play(learner, losses, uniform(8), delay)
    bound = learner.regret_bound(600, 1.0 / 8, 8)
    assert total - losses.sum(axis=0).min() <= np.sqrt(delay + 1) * bound + delay


def test_a_thousand_experts_are_learned_over(learner: Learner) -> None:
    """The one good expert among 1000 ends with most of the weight."""
    losses = np.random.default_rng(3).random((300, 1000))
    losses[:, 417] *= 0.2
    total, state = play(learner, losses, uniform(1000))
    assert learner.weights(state).argmax() == 417
    assert learner.weights(state)[417] > 0.9
    assert total - losses.sum(axis=0).min() <= learner.regret_bound(300, 1e-3, 1000)


def test_one_expert_always_has_all_the_weight(learner: Learner) -> None:
    """The weight of an only expert is exactly 1, whatever the losses are."""
    state = learner.init(np.ones(1))
    for loss in (0.0, 1.0, 0.3):
        state = learner.update(state, np.array([loss]), np.array([True]))
        assert learner.weights(state).tolist() == [1.0]


def test_equal_experts_keep_the_prior(free_learner: Learner) -> None:
    """Experts that always lose the same stay at the prior, even if some sleep at times: rounding is not evidence."""
    rng = np.random.default_rng(4)
    prior = np.array([0.1, 0.6, 0.3])
    state = free_learner.init(prior)
    for loss in rng.random(2000):
        state = free_learner.update(state, np.full(3, loss), rng.random(3) < 0.7)
        np.testing.assert_allclose(free_learner.weights(state), prior, atol=1e-6)


def test_weights_are_a_distribution_after_every_update(learner: Learner) -> None:
    """Weights are non-negative and sum to 1 within rounding, also for the extreme losses 0 and 1."""
    rng = np.random.default_rng(5)
    state = learner.init(rng.dirichlet(np.full(16, 0.2)) + 1e-6)
    for row in rng.integers(0, 2, (400, 16)).astype(float):
        state = learner.update(state, row, rng.random(16) < 0.8)
        weights = learner.weights(state)
        assert weights.dtype == np.float64
        assert (weights >= 0).all()
        assert weights.sum() == pytest.approx(1.0, abs=1e-12)


def test_the_prior_is_the_first_choice(free_learner: Learner) -> None:
    """Before the first update the weights are the normalised prior."""
    state = free_learner.init(np.array([1.0, 3.0, 4.0]))
    np.testing.assert_allclose(free_learner.weights(state), [0.125, 0.375, 0.5], rtol=1e-15)


@pytest.mark.parametrize("name", LEARNERS.names())
def test_a_right_prior_helps_and_a_misleading_one_costs_little(name: str) -> None:
    """With eps = 0.1 mixed in, a preference for the worst of eight costs less than 10 % of the uniform start's loss,
    and a right preference makes it smaller. The two that start with small rates need longer: 30 %."""
    learner = make_learner(name)
    rng = np.random.default_rng(6)
    rates = np.array([0.2, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.7])
    losses = (rng.random((256, 8)) < rates).astype(float)
    plain, _ = play(learner, losses, uniform(8))
    right, _ = play(learner, losses, mixed_prior(np.eye(8)[0], 0.1))
    wrong, _ = play(learner, losses, mixed_prior(np.eye(8)[7], 0.1))
    assert right < plain
    assert wrong < (1.3 if name in ("hedge_fixed", "squint") else 1.1) * plain


def test_regret_against_each_expert_is_bounded_by_its_own_prior(learner: Learner) -> None:
    """The bound for expert i depends on its prior mass, not on the number of experts alone."""
    rng = np.random.default_rng(7)
    prior = rng.dirichlet(np.full(8, 0.3)) * 0.9 + 0.1 / 8
    losses = stochastic(rng, 1000, 8)
    total, _ = play(learner, losses, prior)
    for expert, mass in enumerate(prior):
        assert total - losses[:, expert].sum() <= learner.regret_bound(1000, mass, 8)


def test_a_sleeping_expert_is_neither_punished_nor_rewarded(free_learner: Learner) -> None:
    """While it sleeps, an expert's loss entry is not read, and giving it the mixture's loss changes nothing."""
    rng = np.random.default_rng(8)
    asleep = said = free_learner.init(uniform(4))
    awake = np.array([True, True, False, True])
    for row in rng.random((60, 4)):
        weights = np.where(awake, free_learner.weights(asleep), 0.0)
        mixture = weights @ row / weights.sum()
        asleep = free_learner.update(asleep, np.where(awake, row, np.nan), awake)
        said = free_learner.update(said, np.where(awake, row, mixture), np.ones(4, dtype=bool))
        np.testing.assert_allclose(free_learner.weights(asleep), free_learner.weights(said), atol=1e-9)


def test_regret_against_a_specialist_counts_only_its_waking_positions(learner: Learner) -> None:
    """An expert that is best while awake is followed then: the regret over its waking positions is below the bound."""
    rng = np.random.default_rng(9)
    horizon = 1200
    losses = (rng.random((horizon, 6)) < 0.5).astype(float)
    losses[:, 2] = rng.random(horizon) < 0.15
    awake = np.ones((horizon, 6), dtype=bool)
    awake[:, 2] = rng.random(horizon) < 0.4
    awake[:, 5] = (np.arange(horizon) // 100) % 2 == 0
    state, regret = learner.init(uniform(6)), np.zeros(6)
    for row, mask in zip(losses, awake, strict=True):
        weights = np.where(mask, learner.weights(state), 0.0)
        if weights.sum() == 0.0:
            weights = mask.astype(float)
        regret += np.where(mask, weights @ row / weights.sum() - row, 0.0)
        state = learner.update(state, row, mask)
    assert regret.max() <= learner.regret_bound(horizon, 1.0 / 6, 6)
    assert learner.weights(state).argmax() == 2


def test_a_vector_without_an_awake_expert_changes_nothing(learner: Learner) -> None:
    """A vector without an awake expert is no evidence."""
    _, state = play(learner, stochastic(np.random.default_rng(10), 20, 3), uniform(3))
    assert learner.update(state, np.zeros(3), np.zeros(3, dtype=bool)) is state


def test_awake_experts_without_weight_are_handled(learner: Learner) -> None:
    """When every expert with weight falls asleep, the others still learn from each other."""
    _, state = play(learner, np.tile([0.0, 1.0, 1.0], (200, 1)), uniform(3))
    for _ in range(200):
        state = learner.update(state, np.array([0.0, 0.0, 1.0]), np.array([False, True, True]))
    weights = learner.weights(state)
    assert np.isfinite(weights).all()
    assert weights[1] >= weights[2]


def test_update_is_pure(learner: Learner) -> None:
    """The old state keeps its weights, and a state's arrays are read-only."""
    state = learner.init(uniform(3))
    before = learner.weights(state).copy()
    later = learner.update(state, np.array([0.0, 0.5, 1.0]), np.ones(3, dtype=bool))
    np.testing.assert_array_equal(learner.weights(state), before)
    with pytest.raises(ValueError, match="read-only"):
        learner.weights(later)[0] = 1.0


@pytest.mark.parametrize(
    "losses",
    [[0.1, np.nan], [0.1, np.inf], [0.1, 1.0001], [-1e-6, 0.5], [0.1], [0.1, 0.2, 0.3], [[0.1, 0.2]]],
)
def test_impossible_losses_are_refused(learner: Learner, losses: list) -> None:
    """Non-finite or out-of-range losses and wrong shapes raise instead of spoiling the weights."""
    with pytest.raises(InvalidObservation):
        learner.update(learner.init(uniform(2)), np.array(losses), np.ones(2, dtype=bool))


def test_an_awake_mask_must_be_boolean(learner: Learner) -> None:
    """Indices instead of a mask would silently select the wrong experts."""
    with pytest.raises(InvalidObservation, match="bool"):
        learner.update(learner.init(uniform(2)), np.array([0.1, 0.2]), np.array([0, 1]))


@pytest.mark.parametrize("prior", [[], [[0.5, 0.5]], [0.0, 1.0], [-0.5, 1.5], [np.nan, 1.0], [np.inf, 1.0]])
def test_impossible_priors_are_refused(learner: Learner, prior: list) -> None:
    """An empty, non-finite or non-positive prior raises."""
    with pytest.raises(InvalidObservation):
        learner.init(np.array(prior))


def test_mixed_prior_keeps_a_floor_under_every_drafter() -> None:
    """pi = (1 - eps) * preference + eps * uniform, normalised whatever the preference's scale."""
    np.testing.assert_allclose(mixed_prior(np.array([0.0, 3.0, 1.0, 0.0]), 0.1), [0.025, 0.7, 0.25, 0.025])
    np.testing.assert_allclose(mixed_prior(np.array([5.0, 1.0]), 1.0), [0.5, 0.5])
    for bad, mixing in (([], 0.1), ([0.0, 0.0], 0.1), ([-1.0, 2.0], 0.1), ([1.0], 0.0), ([np.nan, 1.0], 0.1)):
        with pytest.raises(InvalidObservation):
            mixed_prior(np.array(bad), mixing)


def test_an_unknown_learner_names_the_known_ones() -> None:
    """A typo in the configuration is answered with the choices."""
    with pytest.raises(ConfigError, match="normalhedge"):
        make_learner("adahedg")
