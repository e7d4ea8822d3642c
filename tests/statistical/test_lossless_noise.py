"""The noise is uniform along each of its inputs and independent between neighbours in any of them.

Each check has a false-alarm rate of 1e-5 over the choice of seeds; with about 40 checks, 4e-4 for the file. All seeds
are fixed.
"""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from hedgespec.speculative.noise import Purpose, gumbels, uniform, uniforms

FALSE_ALARM_RATE = 1e-5
NUM_DRAWS = 40_000
NUM_SEEDS = 4_000

Stream = Callable[[int], NDArray[np.float64]]


def by_seed(
    offset: int, purpose: Purpose = Purpose.ACCEPT, index: int = 0, round_index: int = 0
) -> NDArray[np.float64]:
    """One number per seed, for consecutive seeds."""
    return np.array([uniform(seed + offset, index, purpose, round_index=round_index) for seed in range(NUM_SEEDS)])


STREAMS: dict[str, Stream] = {
    "token ids": lambda offset: uniforms(1, 5, Purpose.COUPLED, np.arange(NUM_DRAWS) + offset),
    "output indices": lambda offset: uniforms(1, np.arange(NUM_DRAWS) + offset, Purpose.ACCEPT, 0),
    "output indices for drafting": lambda offset: uniforms(
        1, np.arange(NUM_DRAWS) + offset, Purpose.DRAFT, 0, round_index=3
    ),
    "seeds": by_seed,
    "seeds far apart": lambda offset: by_seed(offset + 2**60),
}


@pytest.mark.parametrize("name", STREAMS)
def test_numbers_are_uniform_along_each_input(name):
    """Kolmogorov-Smirnov and a chi-square over 256 equal cells."""
    values = STREAMS[name](0)
    assert stats.kstest(values, "uniform").pvalue > FALSE_ALARM_RATE
    counts = np.histogram(values, 256, (0, 1))[0]
    assert stats.chisquare(counts).pvalue > FALSE_ALARM_RATE


@pytest.mark.parametrize("name", STREAMS)
def test_every_bit_of_the_numbers_is_fair(name):
    """All 52 random bits, not only the leading ones; the rate is shared between them."""
    integers = (STREAMS[name](0) * 2.0**53).astype(np.uint64)
    for bit in range(1, 53):
        ones = int(((integers >> np.uint64(bit)) & np.uint64(1)).sum())
        assert stats.binomtest(ones, len(integers)).pvalue > FALSE_ALARM_RATE / 52


@pytest.mark.parametrize("step", [1, 64])
@pytest.mark.parametrize("name", STREAMS)
def test_neighbours_along_each_input_are_independent(name, step):
    """Numbers `step` apart in one input fall into 16 x 16 cells like independent ones."""
    assert independence_p_value(STREAMS[name](0), STREAMS[name](step)) > FALSE_ALARM_RATE


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((Purpose.DRAFT, 4, 0), (Purpose.ACCEPT, 4, 0)),
        ((Purpose.DRAFT, 4, 2), (Purpose.RECOVER, 4, 0)),
        ((Purpose.ACCEPT, 4, 0), (Purpose.RECOVER, 4, 0)),
        ((Purpose.ACCEPT, 4, 0), (Purpose.RECOVER, 5, 0)),
        ((Purpose.COUPLED, 4, 0), (Purpose.ACCEPT, 4, 0)),
        ((Purpose.DRAFT, 4, 2), (Purpose.DRAFT, 4, 3)),
        ((Purpose.DRAFT, 4, 3), (Purpose.DRAFT, 5, 2)),
    ],
)
def test_purposes_rounds_and_positions_of_one_session_are_independent(one, other):
    """Two numbers that one session uses in the same or in neighbouring rounds are independent, over 4,000 seeds."""
    streams = [by_seed(0, purpose, index, round_index) for purpose, index, round_index in (one, other)]
    assert independence_p_value(*streams) > FALSE_ALARM_RATE


def test_sessions_with_neighbouring_seeds_are_independent_at_shifted_positions():
    """Weak keys that are merely added up would coincide for seed s at index i and seed s + 1 at index i - 1."""
    first = by_seed(0, Purpose.ACCEPT, index=9)
    assert independence_p_value(first, by_seed(1, Purpose.ACCEPT, index=8)) > FALSE_ALARM_RATE
    assert len(np.intersect1d(first, by_seed(1, Purpose.ACCEPT, index=8))) == 0


def test_a_weak_hash_is_caught():
    """The checks can fail: a low-discrepancy sequence is uniform but its neighbours are not independent."""
    golden = (np.arange(NUM_DRAWS + 1) * 0.6180339887498949) % 1.0
    assert independence_p_value(golden[:-1], golden[1:]) < 1e-12


def test_gumbel_noise_has_the_gumbel_distribution():
    assert stats.kstest(gumbels(3, 8, np.arange(NUM_DRAWS)), "gumbel_r").pvalue > FALSE_ALARM_RATE


def independence_p_value(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    counts = np.histogram2d(first, second, 16, ((0, 1), (0, 1)))[0]
    return float(stats.chisquare(counts.ravel()).pvalue)
