"""The sum of u against speculative decoding as it is really run, on answers too long to enumerate."""

from __future__ import annotations

import numpy as np

from hedgespec.learning.estimators import RoundsCursor, advance

VOCAB, DEPTH, NUM_TOKENS, NUM_ANSWERS = 4, 3, 24, 4000


def test_simulated_passes_match_the_sum_of_u() -> None:
    """Mean passes of simulated decoding equal the mean of sum_t u_t over the target's own text.

    Start-dependent drafts; fixed seed. The difference of the two means is normal: 4.5 standard errors are exceeded by
    chance once in 150,000 seeds.
    """
    rng = np.random.default_rng(20251123)
    target = rng.dirichlet(np.full(VOCAB, 0.5), size=VOCAB)  # [last token, next token]
    drafts = rng.dirichlet(np.full(VOCAB, 0.5), size=(DEPTH, VOCAB)) * 0.4 + 0.6 * target  # [depth - 1, last, next]

    passes, _ = decode_with_drafts(rng, target, drafts)
    text = decode_plainly(rng, target)
    estimate = estimated_passes(text, target, drafts)

    difference = passes.mean() - estimate.mean()
    error = np.sqrt(passes.var() / NUM_ANSWERS + estimate.var() / NUM_ANSWERS)
    assert abs(difference) < 4.5 * error
    assert 2 * NUM_TOKENS / (DEPTH + 1) < 2 * estimate.mean() < 2 * NUM_TOKENS
    assert estimate.var() < passes.var()


def test_the_chosen_drafters_text_is_as_good_as_the_targets_own() -> None:
    """Any lossless run is the same evidence: text made with drafts gives the same mean of sum_t u_t (4.5 errors)."""
    rng = np.random.default_rng(7)
    target = rng.dirichlet(np.full(VOCAB, 0.5), size=VOCAB)
    drafts = rng.dirichlet(np.full(VOCAB, 0.5), size=(DEPTH, VOCAB))
    _, drafted_text = decode_with_drafts(rng, target, drafts)
    drafted = estimated_passes(drafted_text, target, drafts)
    plain = estimated_passes(decode_plainly(rng, target), target, drafts)
    error = np.sqrt(drafted.var() / NUM_ANSWERS + plain.var() / NUM_ANSWERS)
    assert abs(drafted.mean() - plain.mean()) < 4.5 * error


def decode_plainly(rng: np.random.Generator, target: np.ndarray) -> np.ndarray:
    """Return the target's own ids [num_answers, num_tokens]; the id before the first is 0."""
    text, last = np.zeros((NUM_ANSWERS, NUM_TOKENS), dtype=int), np.zeros(NUM_ANSWERS, dtype=int)
    for position in range(NUM_TOKENS):
        last = text[:, position] = draw(rng, target[last])
    return text


def decode_with_drafts(
    rng: np.random.Generator, target: np.ndarray, drafts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draft, accept with min(1, p/q), else draw from the residual.

    Returns passes [num_answers] and ids [num_answers, num_tokens]. All answers move one token at a time; `depth` counts
    the accepted tokens of the round that an answer is inside of.
    """
    text, last = np.zeros((NUM_ANSWERS, NUM_TOKENS), dtype=int), np.zeros(NUM_ANSWERS, dtype=int)
    depth, passes = np.zeros(NUM_ANSWERS, dtype=int), np.zeros(NUM_ANSWERS)
    for position in range(NUM_TOKENS):
        passes += depth == 0
        p = target[last]
        is_bonus = depth == DEPTH
        q = drafts[np.minimum(depth, DEPTH - 1), last]
        proposed = draw(rng, q)
        rows = np.arange(NUM_ANSWERS)
        is_accepted = ~is_bonus & (rng.random(NUM_ANSWERS) * q[rows, proposed] < p[rows, proposed])
        residual = np.maximum(p - q, 0.0) + 1e-300
        recovered = draw(rng, np.where(is_bonus[:, None], p, residual))
        last = text[:, position] = np.where(is_accepted, proposed, recovered)
        depth = np.where(is_accepted, depth + 1, 0)
    return passes, text


def estimated_passes(text: np.ndarray, target: np.ndarray, drafts: np.ndarray) -> np.ndarray:
    """sum_t u_t of every answer: [num_answers]."""
    before = np.concatenate([np.zeros((NUM_ANSWERS, 1), dtype=int), text[:, :-1]], axis=1)
    p = target[before, text]
    acceptance = np.stack([np.minimum(1.0, drafts[depth][before, text] / p) for depth in range(DEPTH)], axis=2)
    _, round_starts = advance(RoundsCursor.start(NUM_ANSWERS, DEPTH), acceptance)
    return round_starts[:-1].sum(axis=0)


def draw(rng: np.random.Generator, weights: np.ndarray) -> np.ndarray:
    """Draw one id per row of unnormalised weights [num_rows, vocab]."""
    levels = weights.cumsum(axis=1)
    return (rng.random((len(weights), 1)) * levels[:, -1:] >= levels).sum(axis=1)
