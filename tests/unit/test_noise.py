"""Counter-based noise: exact values, the open interval, and the pruned keyed sample."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hedgespec.speculative.noise import Purpose, gumbel_argmax, gumbels, uniform, uniforms

PINNED = [0.44668786016030915, 0.4109370506924025, 0.9813362555909421]


def test_values_are_pinned_because_replicas_of_different_releases_must_agree():
    """A change of the hash changes every seeded answer; it needs a new protocol version, not a new expectation here."""
    values = uniforms(42, 7, Purpose.COUPLED, [0, 1, 2047])
    assert values.tolist() == PINNED
    assert float(gumbels(42, 7, [1])[0]) == pytest.approx(-np.log(-np.log(PINNED[1])), rel=1e-7)


def test_the_hash_is_splitmix64_in_its_last_input():
    """Checked against an independent implementation in Python integers."""
    mask = (1 << 64) - 1

    def absorb(state: int, word: int) -> int:
        x = (state + (word + 1) * 0x9E3779B97F4A7C15) & mask
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    for seed, index, purpose, counter, round_index in [(0, 0, Purpose.DRAFT, 0, 0), (-5, 900, Purpose.ACCEPT, 7, 31)]:
        key = absorb(absorb(absorb(absorb(seed & mask, purpose), round_index), index), counter)
        expected = ((key >> 11) | 1) * 2.0**-53
        assert uniforms(seed, index, purpose, counter, round_index=round_index) == expected
        first = uniforms(seed, index, purpose, 0, round_index=round_index)
        assert uniform(seed, index, purpose, round_index=round_index) == first


def test_any_seed_is_taken_modulo_two_to_the_64():
    """A client's negative or huge seed is legal and keeps meaning the same."""
    for seed in (-1, -(2**63), 2**64 - 1, 2**70 + 3, 0):
        assert uniform(seed, 3, Purpose.DRAFT) == uniform(seed % 2**64, 3, Purpose.DRAFT)


def test_every_input_changes_the_value():
    base = uniform(1, 2, Purpose.DRAFT, round_index=3)
    others = [
        uniform(2, 2, Purpose.DRAFT, round_index=3),
        uniform(1, 3, Purpose.DRAFT, round_index=3),
        uniform(1, 2, Purpose.ACCEPT, round_index=3),
        uniform(1, 2, Purpose.DRAFT, round_index=4),
        float(uniforms(1, 2, Purpose.DRAFT, 1, round_index=3)),
    ]
    assert len({base, *others}) == 6


def test_indices_and_counters_broadcast():
    """A block of positions and ids at once equals the single numbers."""
    block = uniforms(5, np.arange(3)[:, None], Purpose.COUPLED, np.arange(4)[None, :])
    assert block.shape == (3, 4)
    assert all(block[i, j] == uniforms(5, i, Purpose.COUPLED, j) for i in range(3) for j in range(4))
    assert uniforms(5, 1, Purpose.COUPLED, []).shape == (0,)


def test_extreme_hashes_stay_inside_the_open_interval():
    """The largest and the smallest value have finite, non-zero logarithms, so no Gumbel noise is infinite."""
    largest, smallest = ((2**53 - 1) | 1) * 2.0**-53, 2.0**-53
    assert largest < 1.0
    assert np.isfinite(-np.log(-np.log([largest, smallest]))).all()
    values = uniforms(9, 0, Purpose.COUPLED, np.arange(200_000))
    assert values.min() > 0.0
    assert values.max() < 1.0


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 600), st.floats(0.0, 12.0), st.floats(0.0, 0.9))
def test_pruned_keyed_sample_equals_the_argmax_over_all_ids(seed, num_ids, sharpness, masked_share):
    """Skipping logarithms of hopeless candidates never changes the winner."""
    rng = np.random.default_rng(seed)
    probs = np.exp(sharpness * rng.normal(size=num_ids)).astype(np.float32)
    probs[rng.random(num_ids) < masked_share] = 0.0
    probs[rng.integers(num_ids)] = 1.0
    ids = rng.permutation(5000)[:num_ids].astype(np.int32)
    with np.errstate(divide="ignore"):
        scores = np.log(probs.astype(np.float64)) + gumbels(seed, 17, ids)
    assert gumbel_argmax(ids, probs, seed, 17) == ids[scores.argmax()]


def test_keyed_sample_depends_on_ids_not_on_their_order_or_the_scale_of_probs():
    """A drafter that holds fewer candidates in another order still agrees with the target on the ones it holds."""
    rng = np.random.default_rng(3)
    probs = rng.random(50).astype(np.float32)
    order = rng.permutation(50)
    for index in range(50):
        expected = gumbel_argmax(np.arange(50, dtype=np.int32), probs, 8, index)
        assert gumbel_argmax(order.astype(np.int32), probs[order] * np.float32(0.25), 8, index) == expected
