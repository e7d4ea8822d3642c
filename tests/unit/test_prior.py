"""The prompt tilts the prior, by a bounded amount, and only between drafters that have answered."""

from __future__ import annotations

import numpy as np
import pytest

from hedgespec.errors import InvalidObservation
from hedgespec.learning.prior import DISCOUNT, RATE, prompt_loss, tilted_prior

UNIFORM = np.full(4, 0.25)


def test_the_last_prompt_tokens_count_most() -> None:
    early, late = np.array([1, 1, 0, 0], np.float32), np.array([0, 0, 1, 1], np.float32)
    assert prompt_loss(early, 4) == pytest.approx(1 + DISCOUNT)
    assert prompt_loss(late, 4) == pytest.approx(DISCOUNT**2 + DISCOUNT**3)


def test_the_tilt_is_the_exponential_of_the_losses_and_then_mixed() -> None:
    tilted = tilted_prior(np.array([0.5, 0.25, 0.25]), {0: 2.0, 1: 0.0, 2: 1.0}, 0.1)
    expected = np.array([0.5, 0.25, 0.25]) * np.exp(-RATE * np.array([2.0, 0.0, 1.0]))
    np.testing.assert_allclose(tilted, 0.9 * expected / expected.sum() + 0.1 / 3)


def test_a_drafter_that_has_not_answered_keeps_its_mass_before_mixing() -> None:
    tilted = tilted_prior(UNIFORM, {1: 0.0, 3: 3.0}, 0.1)
    assert tilted[0] == pytest.approx(0.25)
    assert tilted[2] == pytest.approx(0.25)
    assert tilted[1] > 0.25 > tilted[3]
    assert tilted.sum() == pytest.approx(1.0)


def test_a_single_answer_compares_nothing() -> None:
    np.testing.assert_array_equal(tilted_prior(UNIFORM, {2: 5.0}, 0.1), UNIFORM)


def test_the_worst_drafter_of_the_longest_prompt_keeps_its_share_of_the_uniform_prior() -> None:
    """Wrong evidence costs ln(N / eps) at most: no mass falls below eps / N."""
    tilted = tilted_prior(UNIFORM, {0: 0.0, 1: 1000.0, 2: 0.0, 3: 0.0}, 0.1)
    assert tilted[1] >= 0.1 / 4
    assert np.isfinite(tilted).all()


@pytest.mark.parametrize(
    "overlap", [np.ones(3), np.ones((4, 1)), np.array([1, np.nan, 1, 1]), np.full(4, 1.5), np.full(4, -0.5)]
)
def test_malformed_prompt_scores_are_refused(overlap: np.ndarray) -> None:
    with pytest.raises(InvalidObservation):
        prompt_loss(overlap.astype(np.float32), 4)
