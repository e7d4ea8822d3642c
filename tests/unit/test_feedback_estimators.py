"""The formulas of the feedback, proved by adding up every trajectory of small random models.

Nothing here is sampled except the models themselves: expectations are sums over all trajectories, exact to rounding.
"""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest

from hedgespec.speculative.estimators import (
    RoundsCursor,
    acceptance_prob_sparse,
    advance,
    expected_length,
    length_product,
    start_diagonals,
)
from hedgespec.types import SparseRows

VOCAB = 3


class RandomModels:
    """A target p(x | prefix) and a drafter q(x | prefix, start of the round), drawn once per argument."""

    def __init__(self, seed: int, has_start_dependent_drafts: bool) -> None:
        rng = np.random.default_rng(seed)
        self.target = cache(lambda prefix: rng.dirichlet(np.full(VOCAB, 0.7)))
        by_start = cache(lambda prefix, start: rng.dirichlet(np.full(VOCAB, 0.7)))
        self.drafter = by_start if has_start_dependent_drafts else lambda prefix, start: by_start(prefix, 0)

    def acceptance(self, tokens: tuple[int, ...], depth: int) -> tuple[np.ndarray, np.ndarray]:
        """a and gamma [num_positions, depth] of `rejection` along a trajectory; starts before 0 do not exist: NaN."""
        a = np.full((len(tokens), depth), np.nan)
        gamma = np.full((len(tokens), depth), np.nan)
        for position, token in enumerate(tokens):
            p = self.target(tokens[:position])
            for j in range(1, min(depth, position + 1) + 1):
                q = self.drafter(tokens[:position], position - j + 1)
                a[position, j - 1] = min(1.0, q[token] / p[token])
                gamma[position, j - 1] = np.minimum(p, q).sum()
        return a, gamma

    def trajectories(self, num_tokens: int):
        """Every token sequence of this length with its probability under the target."""
        for tokens in itertools.product(range(VOCAB), repeat=num_tokens):
            probability = np.prod([self.target(tokens[:k])[tokens[k]] for k in range(num_tokens)])
            yield tokens, float(probability)

    def expected_passes(self, num_tokens: int, depth: int) -> float:
        """Truth: speculative decoding itself (draft, accept with min(1, p/q), residual, bonus), over all outcomes."""

        def start_round(prefix: tuple[int, ...]) -> float:
            return 0.0 if len(prefix) >= num_tokens else 1.0 + inside_round(prefix, len(prefix), 0)

        def inside_round(prefix: tuple[int, ...], start: int, num_accepted: int) -> float:
            if len(prefix) >= num_tokens:
                return 0.0
            p = self.target(prefix)
            q = self.drafter(prefix, start) if num_accepted < depth else np.zeros(VOCAB)
            total = 0.0
            for token in range(VOCAB):
                total += min(p[token], q[token]) * inside_round((*prefix, token), start, num_accepted + 1)
                total += max(p[token] - q[token], 0.0) * start_round((*prefix, token))
            return total

        return start_round(())

    def expected_length(self, depth: int) -> float:
        """Truth: 1 + sum_k of the probability that k drafted tokens survive."""

        def survive(prefix: tuple[int, ...]) -> float:
            if len(prefix) == depth:
                return 0.0
            kept = np.minimum(self.target(prefix), self.drafter(prefix, 0))
            return sum(kept[token] * (1.0 + survive((*prefix, token))) for token in range(VOCAB))

        return 1.0 + survive(())


@pytest.mark.parametrize("has_start_dependent_drafts", [False, True])
@pytest.mark.parametrize("depth", [0, 1, 2, 3, 6])
def test_sum_of_u_is_the_expected_number_of_target_passes(depth: int, has_start_dependent_drafts: bool) -> None:
    """Averaged over the target's trajectories, sum_t u_t equals the passes that the drafter alone needs, exactly."""
    for seed in range(4):
        models = RandomModels(seed, has_start_dependent_drafts)
        estimate = 0.0
        for tokens, probability in models.trajectories(5):
            a, _ = models.acceptance(tokens, depth)
            _, round_starts = advance(RoundsCursor.start(1, depth), np.nan_to_num(a)[None])
            estimate += probability * round_starts[:-1].sum()
        assert estimate == pytest.approx(models.expected_passes(5, depth), abs=1e-12)


def test_sum_of_u_needs_the_start_dependence() -> None:
    """Scoring every depth with the depth-1 rows is wrong for start-dependent drafts: the test above can fail."""
    models = RandomModels(0, has_start_dependent_drafts=True)
    estimate = 0.0
    for tokens, probability in models.trajectories(5):
        a, _ = models.acceptance(tokens, 3)
        _, round_starts = advance(RoundsCursor.start(1, 3), a[None, :, :1].repeat(3, axis=2))
        estimate += probability * round_starts[:-1].sum()
    assert abs(estimate - models.expected_passes(5, 3)) > 0.05


def test_greedy_hits_count_rounds_exactly() -> None:
    """With 0/1 acceptance u is 0 or 1 and its sum is the number of rounds that a plain loop counts."""
    rng = np.random.default_rng(0)
    for depth in (1, 2, 5):
        hits = rng.random((40, depth)) < 0.7
        position, num_rounds = 0, 0
        while position < 40:
            num_rounds += 1
            num_accepted = 0
            while num_accepted < depth and position < 40 and hits[position, num_accepted]:
                position, num_accepted = position + 1, num_accepted + 1
            position += 1
        _, round_starts = advance(RoundsCursor.start(1, depth), hits[None].astype(float))
        assert round_starts[:-1].sum() == num_rounds
        assert set(np.unique(round_starts)) <= {0.0, 1.0}


def test_advance_in_steps_equals_advance_at_once() -> None:
    """The cursor carries everything: splitting the positions anywhere changes no bit."""
    acceptance = np.random.default_rng(1).random((4, 30, 5))
    _, whole = advance(RoundsCursor.start(4, 5), acceptance)
    cursor, parts = RoundsCursor.start(4, 5), []
    for begin, end in ((0, 1), (1, 8), (8, 8), (8, 30)):
        cursor, part = advance(cursor, acceptance[:, begin:end])
        parts.append(part[:-1])
    np.testing.assert_array_equal(np.concatenate([*parts, part[-1:]]), whole)


def test_advance_equals_the_recursion_as_it_is_written_in_the_design() -> None:
    """u_0 = 1; for each t: s = u_t; for k: u_{t+k+1} += s (1 - a_{t,k+1}); s *= a_{t,k+1}."""
    rng = np.random.default_rng(2)
    acceptance = rng.random((1, 25, 4))
    u = np.zeros(40)
    u[0] = 1.0
    for t in range(25):
        mass = u[t]
        for k in range(5):
            position = t + k
            a = acceptance[0, position, k] if k < 4 and position < 25 else 0.0
            u[position + 1] += mass * (1.0 - a)
            mass *= a
    _, round_starts = advance(RoundsCursor.start(1, 4), acceptance)
    # beyond the last verified position the two differ in what they assume; up to it they are the same
    np.testing.assert_allclose(round_starts[:, 0], u[:26], atol=1e-12)


def test_a_drafter_restarts_at_one_after_a_gap() -> None:
    """Unscored positions put the drafter back to u = 1, whatever stands in their rows; others are not touched."""
    acceptance = np.random.default_rng(3).random((2, 10, 3))
    awake = np.ones((2, 10), dtype=bool)
    awake[0, 4:6] = False
    acceptance[0, 4:6] = np.nan
    _, gapped = advance(RoundsCursor.start(2, 3), acceptance, awake)
    _, other = advance(RoundsCursor.start(1, 3), acceptance[1:])
    _, after = advance(RoundsCursor.start(1, 3), acceptance[:1, 6:])
    np.testing.assert_array_equal(gapped[:, 1], other[:, 0])
    np.testing.assert_array_equal(gapped[6:, 0], after[:, 0])
    assert gapped[5:7, 0].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_exact_length_is_unbiased(depth: int) -> None:
    """1 + sum_k (prod_{j<k} a_j) gamma_k has exactly the true expected acceptance length as its mean."""
    for seed in range(6):
        models = RandomModels(seed, has_start_dependent_drafts=True)
        estimate = 0.0
        for tokens, probability in models.trajectories(depth):
            a, gamma = (start_diagonals(rows[None]) for rows in models.acceptance(tokens, depth))
            estimate += probability * float(expected_length(a, gamma)[0, 0])
        assert estimate == pytest.approx(models.expected_length(depth), abs=1e-12)


def test_product_length_is_biased_in_the_known_counterexample() -> None:
    """p1 = (1/2, 1/2), q1 = (1, 0), gamma_2 = 1 after the first id and 0 after the other: truth 2.00, product 1.75."""
    a = np.array([[1.0, 1.0], [0.0, 0.0]])
    gamma = np.array([[0.5, 1.0], [0.5, 0.0]])
    assert expected_length(a, gamma).mean() == 2.0
    assert length_product(gamma).mean() == 1.75


def test_product_length_equals_the_exact_one_at_temperature_zero() -> None:
    """With 0/1 values a and gamma coincide and so do the two forms."""
    hits = (np.random.default_rng(4).random((50, 4)) < 0.6).astype(float)
    np.testing.assert_array_equal(expected_length(hits, hits), length_product(hits))


def test_start_diagonals_follow_one_round() -> None:
    """Entry [s, j - 1] is taken from position s + j - 1; starts that lack positions are left out."""
    by_position = np.arange(12.0).reshape(1, 4, 3)
    np.testing.assert_array_equal(start_diagonals(by_position)[0], [[0, 4, 8], [3, 7, 11]])
    assert start_diagonals(by_position[:, :2]).shape == (1, 0, 3)


def test_sparse_acceptance_probability_is_unbiased() -> None:
    """Averaged over the realised token, the estimate equals sum_x min(p, q), whichever ids were sent, even none."""
    rng = np.random.default_rng(5)
    for num_top in (0, 1, 3, 8):
        for _ in range(20):
            p = rng.dirichlet(np.full(8, 0.4))
            q = rng.dirichlet(np.full(8, 0.4)) * (rng.random(8) < 0.8)
            top = rng.permutation(8)[:num_top].astype(np.int32)
            tokens = np.arange(8, dtype=np.int32)
            rows = SparseRows(
                np.arange(9, dtype=np.int32) * num_top, np.tile(top, 8), np.tile(p[top], 8).astype(np.float64)
            )
            estimate = acceptance_prob_sparse(rows, np.tile(q[top], 8), tokens, p, q)
            assert p @ estimate == pytest.approx(np.minimum(p, q).sum(), abs=1e-12)


def test_sparse_acceptance_probability_survives_underflow() -> None:
    """A realised token whose probability has underflown to zero gives a finite estimate."""
    rows = SparseRows(np.zeros(2, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))
    for p in (0.0, 1e-320):
        estimate = acceptance_prob_sparse(rows, np.zeros(0), np.array([3]), np.array([p]), np.array([0.2]))
        assert np.isfinite(estimate).all()
        assert 0.0 <= estimate[0] <= 1.0
