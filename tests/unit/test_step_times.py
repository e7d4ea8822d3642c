"""Step times give seconds per expert here and now, robust to stalls, and without a round that is only there to be timed."""

from __future__ import annotations

import numpy as np
import pytest

from hedgespec.learning.experts import Expert
from hedgespec.learning.step_times import LIFETIME_ROUNDS, WINDOW, AnswerTimes, RoundTime, StepTimes

A, B, NONE = Expert(0, 4), Expert(1, 4), Expert(None, 0)
EXPERTS = (A, B, NONE)


def answer(times: StepTimes, target: str = "") -> AnswerTimes:
    own = AnswerTimes(times, ["a", "b"])
    own.target = target
    for index in (0, 1):  # the first draft of an answer, which is not counted
        own._have_drafted.add(index)
    return own


def drafted(index: int, draft_s: float, verify_s: float, verified: int = 4, rest_s: float = 0.0) -> RoundTime:
    return RoundTime(index, 4, verified, draft_s, verify_s, rest_s)


def plain(verify_s: float) -> RoundTime:
    return RoundTime(None, 0, 0, 0.0, verify_s)


def add(times: AnswerTimes, time: RoundTime, count: int = 2) -> None:
    for _ in range(count):
        times.add(time)


def test_all_experts_are_alike_before_two_rounds_were_measured() -> None:
    times = answer(StepTimes())
    np.testing.assert_array_equal(times.seconds(EXPERTS), np.ones(3))
    times.add(drafted(0, 0.4, 1.0))
    np.testing.assert_array_equal(times.seconds(EXPERTS), np.ones(3))


def test_measured_experts_have_their_own_times() -> None:
    """A round is its draft, its verification and the rest, which is the same for all."""
    times = answer(StepTimes())
    add(times, drafted(0, 0.4, 1.0, rest_s=0.01))
    add(times, drafted(1, 0.2, 1.0, rest_s=0.01))
    add(times, RoundTime(None, 0, 0, 0.0, 0.8, 0.01))
    np.testing.assert_allclose(times.seconds(EXPERTS), [1.41, 1.21, 0.81])


def test_what_was_never_measured_is_taken_to_be_cheap() -> None:
    """A draft as the cheapest, a shorter verification as half: they are tried where their scores would make them best."""
    times = answer(StepTimes())
    add(times, drafted(0, 0.4, 1.0))
    np.testing.assert_allclose(times.seconds((*EXPERTS, Expert(0, 2))), [1.4, 1.4, 0.5, 0.2 + 0.6])
    add(times, drafted(1, 0.04, 1.0))
    np.testing.assert_allclose(times.seconds(EXPERTS), [1.4, 1.04, 0.5])


def test_verifications_between_measured_lengths_are_linear_in_their_rows() -> None:
    times = answer(StepTimes())
    add(times, drafted(0, 0.0, 1.4))
    add(times, plain(1.0))
    lengths = [Expert(1, length) for length in (1, 2, 3, 5)]
    np.testing.assert_allclose(times.seconds(lengths), [1.1, 1.2, 1.3, 1.4])


def test_a_drafter_with_nothing_to_propose_costs_what_its_rounds_cost() -> None:
    """Of its ten last rounds every second was verified without a draft."""
    times = answer(StepTimes())
    for _ in range(5):
        times.add(drafted(0, 0.0, 1.0))
        times.add(drafted(0, 0.0, 0.6, verified=0))
    assert times.seconds([A])[0] == pytest.approx(0.8)


@pytest.mark.parametrize("stalled", range(4))
def test_one_stall_does_not_exile_a_drafter(stalled: int) -> None:
    """Two seconds in one round, the first one included, leave the order as it is."""
    times = answer(StepTimes())
    add(times, plain(0.004))
    for round_index in range(4):
        times.add(drafted(1, 0.002, 0.005))
        is_stalled = round_index == stalled
        times.add(drafted(0, 2.0 if is_stalled else 0.001, 2.0 if is_stalled else 0.005))
        if round_index >= 1:
            assert times.seconds([A])[0] < times.seconds([B])[0] + 1e-9


def test_a_drafter_that_was_slow_is_as_good_as_new_after_its_lifetime() -> None:
    times = answer(StepTimes())
    add(times, drafted(0, 2.0, 1.0))
    add(times, drafted(1, 0.1, 1.0))
    assert times.seconds([A])[0] == pytest.approx(3.0)
    add(times, drafted(1, 0.1, 1.0), LIFETIME_ROUNDS)
    assert times.seconds([A])[0] == pytest.approx(1.1)


def test_a_change_of_load_on_a_replica_shows_within_half_a_window() -> None:
    times = answer(StepTimes())
    add(times, drafted(0, 0.1, 1.0), 100)
    add(times, drafted(0, 0.1, 2.0), WINDOW // 2 + 1)
    assert times.seconds([A])[0] == pytest.approx(2.1)


def test_times_are_learned_by_load_and_replica() -> None:
    """Two answers at once have times of their own; before these are measured those of the nearest load stand in."""
    router = StepTimes()
    near, far = answer(router, "near"), answer(router, "far")
    with near.on_target("near"):
        add(near, drafted(0, 0.1, 1.0))
        assert near.seconds([A])[0] == pytest.approx(1.1)
        with far.on_target("far"):
            assert router.load == 1
            assert far.seconds([A])[0] == pytest.approx(1.1), "another replica, another load: better than nothing"
            add(far, drafted(0, 0.1, 3.0))
            add(near, drafted(0, 0.1, 1.5))
            assert far.seconds([A])[0] == pytest.approx(3.1)
            assert near.seconds([A])[0] == pytest.approx(1.6)
        assert router.load == 0
        assert near.seconds([A])[0] == pytest.approx(1.1)


def test_the_first_draft_of_an_answer_is_not_counted() -> None:
    times = AnswerTimes(StepTimes(), ["a", "b"])
    add(times, plain(1.0))
    times.add(drafted(0, 9.0, 1.0))
    add(times, drafted(0, 0.1, 1.0))
    assert times.seconds([A])[0] == pytest.approx(1.1)
