"""The losses that we compare with: each is what its name says, and the one that is biased is caught at it."""

from __future__ import annotations

import numpy as np
import pytest

from hedgespec.bench.simulation.ablation_losses import (
    CensoredLengthLosses,
    ChunkLosses,
    ForwardLengthLosses,
    HybridLosses,
    ProvisionalLengthLosses,
    SkippingLosses,
)
from hedgespec.learning.estimators import expected_length, start_diagonals
from hedgespec.learning.feedback import Feedback
from hedgespec.learning.objectives.acceptance import Acceptance
from hedgespec.learning.objectives.length import Length
from hedgespec.learning.objectives.objective import Losses, Objective, Pool
from hedgespec.learning.objectives.rounds import Rounds
from hedgespec.types import Scores

NUM_DRAFTERS, DEPTH, NUM_TOKENS = 3, 4, 60
POOL = Pool(NUM_DRAFTERS, DEPTH)

Rows = tuple[np.ndarray, np.ndarray]


def random_rows(seed: int) -> Rows:
    """acceptance and acceptance_prob, [num_drafters, num_tokens, depth] float32."""
    rng = np.random.default_rng(seed)
    shape = (NUM_DRAFTERS, NUM_TOKENS, DEPTH)
    return rng.random(shape, dtype=np.float32), rng.random(shape, dtype=np.float32)


def random_chunks(seed: int) -> list[int]:
    """Lengths of rounds, 1 to DEPTH + 1 tokens, that add up to NUM_TOKENS."""
    ends = np.minimum(np.cumsum(np.random.default_rng(seed).integers(1, DEPTH + 2, NUM_TOKENS)), NUM_TOKENS)
    return [length for length in np.diff(ends, prepend=0).tolist() if length]


def closed(
    objective: Objective, rows: Rows, chunks: list[int], absent_at: tuple[int, int] | None = None
) -> list[Losses]:
    """Return the vectors of each chunk, through the real `Feedback`; absent_at: (drafter, chunk) that never answers."""
    acceptance, acceptance_prob = rows
    feedback, vectors, start = Feedback(objective, 0), [], 0
    for index, length in enumerate(chunks):
        feedback.verified(length, index)
        for drafter in range(objective.pool.num_drafters):
            if (drafter, index) != absent_at:
                end = start + length
                own = acceptance[drafter, start:end], acceptance_prob[drafter, start:end]
                feedback.push(drafter, Scores(start, *own))
        vectors.append(feedback.closed_losses(index))
        start += length
    return vectors


def total(vectors: list[Losses]) -> np.ndarray:
    """Sum of all losses, [num_drafters]; all drafters were awake."""
    assert all(awake.all() for chunk in vectors for _, awake in chunk)
    return np.sum([losses for chunk in vectors for losses, _ in chunk], axis=0)


def assert_same_comparison(one: np.ndarray, other: np.ndarray) -> None:
    """Both sums give every pair of drafters the same difference."""
    np.testing.assert_allclose(one - one[0], other - other[0], atol=1e-9)


def test_a_chunks_vector_is_the_mean_of_its_tokens() -> None:
    """Every chunk gives one vector; weighted by the chunks' lengths they add up to the token-level ones."""
    rows, chunks = random_rows(0), random_chunks(0)
    by_token, by_chunk = closed(Rounds(POOL), rows, chunks), closed(ChunkLosses(Rounds(POOL)), rows, chunks)
    for tokens, chunk in zip(by_token, by_chunk, strict=True):
        ((losses, awake),) = chunk
        assert awake.all()
        np.testing.assert_allclose(losses, np.mean([one for one, _ in tokens], axis=0), atol=1e-12)


def test_a_chunk_counts_for_the_drafters_that_scored_all_of_it() -> None:
    """A drafter that is missing at one token sleeps for the chunk; a chunk that no drafter scored in full is left out."""
    acceptance = np.full((2, 2, 1), 0.5)
    answered = np.array([[True, True], [True, False]])
    ((_, awake),) = ChunkLosses(Rounds(POOL)).close(np.ones((2, 2)), acceptance, acceptance, answered)
    assert awake.tolist() == [True, False]
    crosswise = np.array([[False, True], [True, False]])
    assert ChunkLosses(Rounds(POOL)).close(np.ones((2, 2)), acceptance, acceptance, crosswise) == []


@pytest.mark.parametrize("period", [1, 2, 3, 7])
def test_skipping_keeps_every_mth_vector_of_the_answer(period: int) -> None:
    """The count goes on across chunks, so the chunks do not matter."""
    rows = random_rows(1)
    everything = [losses for chunk in closed(Rounds(POOL), rows, [NUM_TOKENS]) for losses, _ in chunk]
    for seed in range(3):
        kept = closed(SkippingLosses(Rounds(POOL), period), rows, random_chunks(seed))
        np.testing.assert_array_equal([losses for chunk in kept for losses, _ in chunk], everything[::period])


def test_censoring_keeps_only_starts_that_are_complete_in_their_chunk() -> None:
    """A chunk of n tokens gives n - K + 1 vectors, the same as waiting gives for those starts; shorter ones give none."""
    rows, chunks = random_rows(2), random_chunks(2)
    acceptance, gamma = (values.astype(np.float64) for values in rows)
    losses = 1.0 - expected_length(start_diagonals(acceptance), start_diagonals(gamma)).T / (DEPTH + 1)
    start = 0
    for length, vectors in zip(chunks, closed(CensoredLengthLosses(POOL), rows, chunks), strict=True):
        num_complete = max(length - DEPTH + 1, 0)
        assert len(vectors) == num_complete
        for k, (one, _) in enumerate(vectors):
            np.testing.assert_allclose(one, losses[start + k], atol=1e-12)
        start += length
    assert {0, 1, 2} == {max(length - DEPTH + 1, 0) for length in chunks}


def test_censoring_confirms_the_chosen_drafter_and_waiting_does_not() -> None:
    """A third of the text is drafter 0's, the rest drafter 1's, in stretches of K + 1 and 2 (K + 1) tokens. Rounds of
    drafter 0 are long on its own stretches only, so censored losses never show drafter 1 at work and prefer drafter 0;
    those of `length`, from the very same rounds, prefer drafter 1."""
    stretch = DEPTH + 1
    is_first = np.tile([True] * stretch + [False] * 2 * stretch, 10)
    hits = np.stack([is_first, ~is_first]).astype(np.float32)[:, :, None].repeat(DEPTH, axis=2)
    chunks = ([stretch] + [1] * 2 * stretch) * 10  # what rounds of drafter 0 emit
    censored = total(closed(CensoredLengthLosses(Pool(2, DEPTH)), (hits, hits), chunks))
    waited = total(closed(Length(Pool(2, DEPTH)), (hits, hits), chunks))
    assert censored[0] < censored[1]
    assert waited[0] > waited[1]


@pytest.mark.parametrize("seed", range(5))
def test_provisional_losses_are_correct_on_completion(seed: int) -> None:
    """Every vector is in [0, 1] whatever the chunks, and the sum over complete starts compares drafters exactly as
    waiting does."""
    rows, chunks = random_rows(seed), random_chunks(seed)
    # no start is left incomplete: the last K - 1 rows accept nothing and add nothing
    for values in rows:
        values[:, -DEPTH + 1 :] = 0.0
    provisional = closed(ProvisionalLengthLosses(POOL), rows, chunks)
    assert all((losses >= 0).all() and (losses <= 1).all() for chunk in provisional for losses, _ in chunk)
    assert_same_comparison(total(provisional), total(closed(Length(POOL), rows, chunks)))


def test_a_provisional_loss_is_truncated_at_the_end_of_the_verified_text() -> None:
    """The loss with h of K positions verified is 1 - L_h / (K + 1), and the correction (K - h - (L - L_h)) / (K + 1)."""
    rows = random_rows(3)
    acceptance, gamma = (values[:, :DEPTH].astype(np.float64) for values in rows)
    diagonals = tuple(start_diagonals(values)[:, 0] for values in (acceptance, gamma))
    full, truncated = (expected_length(*(values[:, :h] for values in diagonals)) for h in (DEPTH, 1))
    first, *_, last = closed(ProvisionalLengthLosses(POOL), rows, [1] * DEPTH)
    np.testing.assert_allclose(first[0][0], 1.0 - truncated / (DEPTH + 1), atol=1e-12)
    np.testing.assert_allclose(last[0][0], (DEPTH - 1 - (full - truncated)) / (DEPTH + 1), atol=1e-12)


def test_a_drafter_that_misses_a_chunk_is_not_corrected_with_rows_it_never_sent() -> None:
    """Vectors in which it is awake use its own rows only: it sleeps wherever one of the K positions is missing."""
    rows = random_rows(4)
    gone = closed(ProvisionalLengthLosses(POOL), rows, [2] * (NUM_TOKENS // 2), absent_at=(1, 5))
    num_awake = [sum(awake[drafter] for chunk in gone for _, awake in chunk) for drafter in range(NUM_DRAFTERS)]
    # 2 provisional values; corrections of the 3 starts before that reach into the chunk, and of its own 2
    assert num_awake[0] - num_awake[1] == 2 + (DEPTH - 1) + 2
    assert num_awake[0] == num_awake[2]


@pytest.mark.parametrize("seed", range(5))
def test_forward_losses_add_up_to_length_without_waiting(seed: int) -> None:
    """Every position gives one vector at once, the same for all chunks; with text that ends in K - 1 rows without terms
    their sum compares drafters exactly as waiting does."""
    rows, chunks = random_rows(seed), random_chunks(seed)
    for values in rows:
        values[:, -DEPTH + 1 :] = 0.0
    forward = closed(ForwardLengthLosses(POOL), rows, chunks)
    assert [len(vectors) for vectors in forward] == chunks
    assert all((losses >= 0).all() and (losses <= 1).all() for chunk in forward for losses, _ in chunk)
    assert_same_comparison(total(forward), total(closed(Length(POOL), rows, chunks)))
    np.testing.assert_allclose(total(forward), total(closed(ForwardLengthLosses(POOL), rows, [NUM_TOKENS])), atol=1e-9)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_hybrid_losses_are_the_stated_mix(weight: float) -> None:
    """The sum of the losses is weight * sum of `acceptance` + (1 - weight) * sum of `length`; terms that can be
    computed now come now."""
    rows, chunks = random_rows(5), random_chunks(5)
    mixed = closed(HybridLosses(POOL, weight), rows, chunks)
    now, later = closed(Acceptance(POOL), rows, chunks), closed(Length(POOL), rows, chunks)
    np.testing.assert_allclose(total(mixed), weight * total(now) + (1 - weight) * total(later), atol=1e-9)
    for vectors, length, own, complete in zip(mixed, chunks, now, later, strict=True):
        assert len(vectors) == length + len(complete)
        np.testing.assert_allclose(vectors[0][0], weight * own[0][0])


def test_without_draft_tokens_nothing_is_compared() -> None:
    """max_draft_tokens = 0 leaves the variants of `length` with nothing to say."""
    empty = np.zeros((2, 3, 0))
    for made in (CensoredLengthLosses, ProvisionalLengthLosses, ForwardLengthLosses):
        assert made(Pool(2, 0)).close(np.ones((3, 2)), empty, empty, np.ones((2, 3), dtype=bool)) == []
