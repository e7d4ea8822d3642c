"""Drafters of negligible weight sleep: they are neither asked nor drawn until a schedule or an alarm wakes them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from hedgespec.learning.sleepers import LATER_PATIENCE, LONGEST, PATIENCE, WINDOW, LossAlarm, Sleepers

WEIGHTS = np.array([0.9999, 0.0001, 0.0])


def asleep(sleepers: Sleepers) -> list[int]:
    return np.flatnonzero(~sleepers.awake).tolist()


def after(num_occasions: int, sleepers: Sleepers, weights: np.ndarray = WEIGHTS) -> list[int]:
    for round_index in range(num_occasions):
        sleepers.occasion(weights, round_index)
    return asleep(sleepers)


def lost(sleepers: Sleepers, loss: float) -> None:
    """The leader's loss at one position that it alone has scored."""
    sleepers.learned(np.array([loss, 1.0, 1.0]), np.array([True, False, False]), loss)


def test_a_negligible_weight_must_last_before_its_drafter_falls_asleep() -> None:
    assert after(PATIENCE - 1, Sleepers(3, 0.001, 50)) == []
    assert after(PATIENCE, Sleepers(3, 0.001, 50)) == [1, 2]


def test_one_occasion_with_weight_starts_the_count_again() -> None:
    sleepers = Sleepers(3, 0.001, 50)
    after(PATIENCE - 1, sleepers)
    sleepers.occasion(np.array([0.5, 0.5, 0.0]), PATIENCE)
    sleepers.occasion(WEIGHTS, PATIENCE + 1)
    assert asleep(sleepers) == [2]


def test_the_leader_never_sleeps() -> None:
    """The leader stays awake even where the threshold is above every weight."""
    assert after(20, Sleepers(3, 0.45, 1000), np.array([0.34, 0.33, 0.33])) == [1, 2]


def test_no_drafter_sleeps_when_sleeping_is_off_or_before_its_first_round() -> None:
    assert after(20, Sleepers(3, 0.001, 0)) == []
    assert after(20, Sleepers(3, 0.001, 50, first_round=20)) == []


def spells(sleepers: Sleepers, num_rounds: int, from_round: int = 0) -> list[tuple[int, int]]:
    """The (first round, number of rounds) of every sleep of drafter 1 that ends in these rounds."""
    found, since = [], None
    for round_index in range(from_round, from_round + num_rounds):
        sleepers.occasion(WEIGHTS, round_index)
        if not sleepers.awake[1] and since is None:
            since = round_index
        elif sleepers.awake[1] and since is not None:
            found.append((since, round_index - since))
            since = None
    return found


def test_sleepers_wake_on_schedule_and_sleep_twice_as_long_when_still_hopeless() -> None:
    """Awake for as many occasions as it takes to judge it: fewer each time after the first, never asleep for good."""
    found = spells(Sleepers(3, 0.001, 10), 400)
    assert found[0] == (PATIENCE - 1, 10)
    assert [rounds for _, rounds in found] == [10, 20, *[10 * LONGEST] * (len(found) - 2)]
    assert len(found) > 6
    gaps = [later[0] - (first[0] + first[1]) for first, later in pairwise(found)]
    assert set(gaps) == {LATER_PATIENCE - 1}


def test_after_an_alarm_all_are_judged_as_at_the_start() -> None:
    sleepers = Sleepers(3, 0.001, 10)
    spells(sleepers, 200)
    for _ in range(100):
        sleepers.played(5)
    for _ in range(WINDOW):
        sleepers.played(1)
    assert sleepers.awake.all(), "the leader's own rounds have shown it"
    assert spells(sleepers, 60, 300)[0] == (300 + PATIENCE - 1, 10)


def test_when_no_speculation_leads_the_drafter_that_did_best_lately_keeps_watch() -> None:
    sleepers = Sleepers(3, 0.001, 10)
    nothing = np.zeros(3)
    for round_index in range(3 * PATIENCE):
        sleepers.learned(np.array([0.9, 0.9, 0.7]), np.ones(3, dtype=bool), 0.6)
        sleepers.occasion(nothing, round_index)
    assert sleepers.awake.tolist() == [False, False, True]
    assert sleepers.is_alone


def test_sleepers_wake_at_once_when_the_leader_gets_clearly_worse() -> None:
    sleepers = Sleepers(3, 0.001, 10_000)
    after(PATIENCE, sleepers)
    for position in range(100):
        lost(sleepers, float(position % 5 == 0))  # five tokens a pass
    assert asleep(sleepers) == [1, 2]
    for _ in range(WINDOW - 1):
        lost(sleepers, 1.0)
    assert asleep(sleepers) == [], "before a whole window has passed"


def test_a_drafter_that_beats_the_leader_stays_awake_although_its_weight_is_negligible() -> None:
    """A learner with a long past follows a change slowly; what it would learn from must not fall asleep meanwhile."""
    sleepers = Sleepers(3, 0.001, 1000)
    for round_index in range(5 * PATIENCE):
        sleepers.learned(np.array([0.8, 0.2, 0.9]), np.ones(3, dtype=bool), 0.8)
        sleepers.occasion(WEIGHTS, round_index)
    assert asleep(sleepers) == [2]


def test_steady_random_losses_ring_the_alarm_rarely() -> None:
    """Independent losses with mean 0.3 over 20,000 positions: 3 deviations of a window's mean are passed in 0.13 % of
    windows by a normal distribution; the binomial's skew makes it more. 16 other seeds gave 11 to 32 alarms, mean 19:
    at most 50 is seven standard deviations of a Poisson count above that."""
    losses = np.random.default_rng(5).random(20_000) < 0.3
    alarm = LossAlarm()
    num_alarms = sum(alarm.push(float(loss)) for loss in losses)
    assert num_alarms <= 50


def test_all_drafters_wake_when_those_awake_are_down() -> None:
    sleepers = Sleepers(3, 0.001, 10_000)
    after(PATIENCE, sleepers)
    assert sleepers.usable([True, True, True]).tolist() == [True, False, False]
    assert sleepers.usable([False, True, True]).tolist() == [False, True, True]
    assert asleep(sleepers) == []


def test_no_drafter_wakes_when_all_are_down() -> None:
    sleepers = Sleepers(3, 0.001, 10_000)
    after(PATIENCE, sleepers)
    assert not sleepers.usable([False, False, False]).any()
    assert asleep(sleepers) == [1, 2]
