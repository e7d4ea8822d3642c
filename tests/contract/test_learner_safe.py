"""The learner that never loses much to one named expert.

Fixed seeds: nothing here can fail by chance after it has passed.
"""

import numpy as np
import pytest

from hedgespec.errors import ConfigError, InvalidObservation
from hedgespec.learning.build import make_learner
from hedgespec.learning.learners.full_information import FullInformation
from hedgespec.learning.learners.hedge import HedgeState
from hedgespec.learning.learners.learner import Learner, LearnerSettings
from hedgespec.learning.learners.normalhedge import NormalHedge
from hedgespec.learning.learners.safe import Safe


class Static(FullInformation[HedgeState]):
    """A learner that stays at the prior."""

    def start(self, prior: np.ndarray) -> HedgeState:
        return HedgeState(prior, prior, 0, prior)

    def step(self, state: HedgeState, losses: np.ndarray, mixture_loss: float) -> HedgeState:
        return state

    def regret_bound(self, num_updates: int, prior_mass: float, num_experts: int) -> float:
        return float(num_updates)


def regret_to(learner: Learner, losses: np.ndarray, baseline: int, masks: np.ndarray | None = None) -> float:
    """The largest regret to the baseline over all prefixes, counting positions at which it is awake."""
    masks = np.ones(losses.shape, dtype=bool) if masks is None else masks
    state = learner.init(np.full(losses.shape[1], 1.0 / losses.shape[1]))
    regret = worst = 0.0
    for row, awake in zip(losses, masks, strict=True):
        weights = np.where(awake, learner.weights(state), 0.0)
        if awake[baseline]:
            regret += weights @ row / weights.sum() - row[baseline]
        worst = max(worst, regret)
        state = learner.update(state, row, awake)
    return worst


def cases(rng: np.random.Generator, baseline: int) -> dict[str, np.ndarray]:
    coins = (rng.random((2000, 6)) < 0.5).astype(float)
    best = coins.copy()
    best[:, baseline] *= 0.3
    bait = np.ones((2000, 6))
    # the others win until they are trusted, then lose everything
    bait[:100, :] = 0.0
    bait[:100, baseline] = 1.0
    bait[100:, baseline] = 0.0
    return {"coins": coins, "baseline best": best, "bait": bait, "zero": np.zeros((50, 6))}


@pytest.mark.parametrize("allowance", [0.5, 3.0])
@pytest.mark.parametrize("baseline", [0, 4])
def test_regret_to_the_baseline_never_exceeds_the_allowance(baseline: int, allowance: float) -> None:
    """The regret stays below the allowance at every moment of 2000 updates, whatever the losses are."""
    learner = Safe(NormalHedge(), baseline, allowance)
    for name, losses in cases(np.random.default_rng(0), baseline).items():
        assert regret_to(learner, losses, baseline) <= allowance + 1e-9, name


def test_an_adversary_who_sees_the_weights_gets_no_more_than_the_allowance() -> None:
    """The base never learns: it loses whenever it is trusted with a thousandth and gains a little otherwise. The
    adversary takes most of the allowance, and not more."""
    learner = Safe(Static(), 0, 2.0)
    state, regret, worst = learner.init(np.array([0.01, 0.33, 0.33, 0.33])), 0.0, 0.0
    for _ in range(3000):
        row = np.array([0.0, 1.0, 1.0, 1.0]) if learner.weights(state)[0] < 0.999 else np.array([0.1, 0.0, 0.0, 0.0])
        regret += float(learner.weights(state) @ row) - row[0]
        worst = max(worst, regret)
        state = learner.update(state, row, np.ones(4, dtype=bool))
    assert 1.5 < worst <= 2.0 + 1e-9


def test_normalhedge_alone_breaks_that_bound() -> None:
    """Plain learning loses more than the allowance to some baseline on fair coins, so the tests above can fail."""
    losses = cases(np.random.default_rng(0), 0)["coins"]
    assert max(regret_to(make_learner("normalhedge"), losses, baseline) for baseline in range(6)) > 3.0


def test_the_allowance_holds_while_experts_sleep() -> None:
    """The regret over the baseline's waking positions stays below the allowance under random absences, its own included."""
    rng = np.random.default_rng(1)
    masks = rng.random((2000, 6)) < 0.6
    masks[~masks.any(axis=1), 2] = True
    for losses in cases(rng, 1).values():
        assert regret_to(Safe(NormalHedge(), 1, 1.5), losses, 1, masks[: len(losses)]) <= 1.5 + 1e-9


def test_it_still_learns() -> None:
    """A drafter that is clearly better than the baseline ends with nearly all weight."""
    rng = np.random.default_rng(2)
    losses = (rng.random((400, 6)) < np.array([0.6, 0.6, 0.3, 0.6, 0.6, 0.6])).astype(float)
    learner = make_learner("safe")
    state = learner.init(np.full(6, 1.0 / 6))
    for row in losses:
        state = learner.update(state, row, np.ones(6, dtype=bool))
    assert learner.weights(state)[2] > 0.9


def test_its_first_choice_mixes_the_prior_with_the_baseline() -> None:
    """Before the first update all experts but the baseline have the same share of their prior mass."""
    prior = np.array([0.2, 0.3, 0.5])
    learner = make_learner("safe", LearnerSettings(baseline_index=1))
    weights = learner.weights(learner.init(prior))
    assert weights.sum() == pytest.approx(1.0)
    assert weights[0] / prior[0] == pytest.approx(weights[2] / prior[2])
    assert weights[1] > 0.3


def test_a_sleeping_experts_entry_is_not_read() -> None:
    """NaN where an expert sleeps is as good as any number."""
    learner = make_learner("safe")
    first = second = learner.init(np.full(3, 1.0 / 3))
    awake = np.array([True, False, True])
    for row in np.random.default_rng(3).random((50, 3)):
        first = learner.update(first, np.where(awake, row, np.nan), awake)
        second = learner.update(second, row, awake)
    assert learner.weights(first).tobytes() == learner.weights(second).tobytes()


def test_an_impossible_baseline_or_allowance_is_refused() -> None:
    """A baseline that is no expert, and an allowance that is none."""
    with pytest.raises(InvalidObservation, match="Baseline 3"):
        make_learner("safe", LearnerSettings(baseline_index=3)).init(np.ones(3))
    for baseline, allowance in ((-1, 3.0), (0, 0.0)):
        with pytest.raises(ConfigError):
            Safe(NormalHedge(), baseline, allowance)
