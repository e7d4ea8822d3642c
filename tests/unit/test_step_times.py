"""Step times give seconds per expert, from rounds that were measured and for those that were not."""

from __future__ import annotations

import numpy as np

from hedgespec.learning.experts import Expert
from hedgespec.learning.step_times import StepTimes

EXPERTS = (Expert(0, 2), Expert(0, 4), Expert(1, 2), Expert(None, 0))
IDS = ("a", "b")


def test_all_experts_are_alike_before_the_first_round() -> None:
    np.testing.assert_array_equal(StepTimes().seconds(EXPERTS, IDS), np.ones(4))


def test_measured_experts_have_their_own_times_and_the_others_estimates() -> None:
    """A draft takes as long per token as the nearest measured length; a drafter never seen as long as the others."""
    times = StepTimes()
    times.add("a", 4, 0.4, 1.0)
    times.add(None, 0, 0.0, 0.8)
    np.testing.assert_allclose(times.seconds(EXPERTS, IDS), [0.2 + 0.8, 0.4 + 1.0, 0.2 + 0.8, 0.8])
    times.add("b", 2, 0.6, 0.9)
    np.testing.assert_allclose(times.seconds(EXPERTS, IDS), [0.2 + 0.9, 0.4 + 1.0, 0.6 + 0.9, 0.8])


def test_a_change_of_load_shows_within_a_few_dozen_rounds() -> None:
    times = StepTimes()
    for _ in range(100):
        times.add("a", 4, 0.1, 1.0)
    for _ in range(30):
        times.add("a", 4, 0.1, 2.0)
    assert 1.9 < times.seconds(EXPERTS, IDS)[1] - 0.1 < 2.0


def test_every_expert_takes_some_time_before_any_drafter_was_measured() -> None:
    times = StepTimes()
    times.add(None, 0, 0.0, 0.5)
    assert (times.seconds(EXPERTS, IDS) == 0.5).all()
