"""Wrappers for losses that arrive late. Fixed seeds: nothing here can fail by chance after it has passed."""

import json

import numpy as np
import pytest

from hedgespec.errors import ConfigError, InvalidObservation
from hedgespec.learners.delayed import Optimistic, Pooled
from hedgespec.learners.hedge import Hedge
from hedgespec.learners.learner import Learner
from hedgespec.learners.normalhedge import NormalHedge

WRAPPERS = (Pooled, Optimistic)
EVERYONE = np.ones(5, dtype=bool)


def losses_of(kind: str, horizon: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    coins = rng.random((horizon, 5))
    if kind == "stochastic":
        return (coins < np.array([0.3, 0.5, 0.5, 0.6, 0.6])).astype(float)
    if kind == "coins":
        return (coins < 0.5).astype(float)
    # whoever was good for a while is bad as soon as that has arrived
    return ((np.arange(horizon)[:, None] // 7 + np.arange(5)) % 2).astype(float)


def play(learner: Learner, losses: np.ndarray, delay: int) -> tuple[float, list[np.ndarray], object]:
    """Summed loss, the weights at each position and the last state, when each vector arrives `delay` positions late."""
    state, chosen = learner.init(np.full(5, 0.2)), []
    for position in range(len(losses)):
        chosen.append(learner.weights(state))
        if position >= delay:
            state = learner.update(state, losses[position - delay], EVERYONE)
    return float((np.array(chosen) * losses).sum()), chosen, state


@pytest.mark.parametrize("base", [NormalHedge(), Hedge()], ids=["normalhedge", "hedge"])
@pytest.mark.parametrize("delay", [0, 1, 6, 20])
@pytest.mark.parametrize("kind", ["stochastic", "coins", "turning"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_regret_under_delay_is_below_the_stated_bound(wrapper, kind: str, delay: int, base: Learner) -> None:
    """The bound of each wrapper holds when the losses come as late as it was told."""
    losses = losses_of(kind, 700)
    learner = wrapper(base, delay)
    total, _, _ = play(learner, losses, delay)
    assert total - losses.sum(axis=0).min() <= learner.regret_bound(700, 0.2, 5)


@pytest.mark.parametrize("delay", [1, 4])
def test_a_pool_is_so_many_learners_that_see_no_delay(delay: int) -> None:
    """Position t is chosen by a learner that has seen exactly the losses of t - (delay + 1), t - 2 (delay + 1), ..."""
    losses = losses_of("coins", 60)
    _, chosen, _ = play(Pooled(NormalHedge(), delay), losses, delay)
    base = NormalHedge()
    for position, weights in enumerate(chosen):
        state = base.init(np.full(5, 0.2))
        for row in losses[position % (delay + 1) : position : delay + 1]:
            state = base.update(state, row, EVERYONE)
        np.testing.assert_array_equal(weights, base.weights(state))


def test_hints_count_the_last_vector_for_every_outstanding_one() -> None:
    """Optimistic Hedge under a delay of 3 equals Hedge on what arrived and three more copies of the last vector."""
    losses = losses_of("coins", 30)
    learner, base = Optimistic(Hedge(), 3), Hedge()
    state, plain = learner.init(np.full(5, 0.2)), base.init(np.full(5, 0.2))
    for row in losses:
        state, plain = learner.update(state, row, EVERYONE), base.update(plain, row, EVERYONE)
        hinted = plain
        for _ in range(3):
            hinted = base.update(hinted, row, EVERYONE)
        np.testing.assert_array_equal(learner.weights(state), base.weights(hinted))


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_no_delay_is_the_learner_itself(wrapper) -> None:
    """With delay 0 a wrapper adds nothing."""
    losses = losses_of("stochastic", 50)
    for mine, plain in zip(play(wrapper(Hedge(), 0), losses, 0)[1], play(Hedge(), losses, 0)[1], strict=True):
        np.testing.assert_array_equal(mine, plain)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_state_survives_json_exactly(wrapper) -> None:
    """Saved and restored in mid-answer, absent experts included, the weights go on bitwise equal."""
    learner, losses = wrapper(NormalHedge(), 3), losses_of("coins", 40)
    state = learner.init(np.full(5, 0.2))
    assert learner.weights(learner.restore(learner.state_dict(state))).tolist() == learner.weights(state).tolist()
    for position, row in enumerate(losses):
        awake = EVERYONE if position % 3 else np.array([True, False, True, True, False])
        state = learner.update(state, np.where(awake, row, np.nan), awake)
        restored = learner.restore(json.loads(json.dumps(learner.state_dict(state))))
        assert learner.weights(restored).tobytes() == learner.weights(state).tobytes()


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_damaged_states_and_impossible_delays_are_refused(wrapper) -> None:
    """Another wrapper's state, another number of copies, and a negative delay."""
    learner = wrapper(NormalHedge(), 2)
    saved = learner.state_dict(learner.init(np.ones(2)))
    for bad in ({}, saved | {"learner": "other"}, saved | {"copies": [], "last": 3}):
        with pytest.raises(InvalidObservation, match="Not a saved state"):
            learner.restore(bad)
    with pytest.raises(ConfigError, match="delay"):
        wrapper(NormalHedge(), -1)
    with pytest.raises(InvalidObservation):
        learner.update(learner.init(np.ones(2)), np.array([np.nan, 0.0]), np.ones(2, dtype=bool))
