"""Multi-drafts begin their chains with the right tokens, which are worth under `rejection` what enumeration says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hedgespec.speculative.multi_chain import MultiChain, chain_lengths
from hedgespec.speculative.multi_scoring import first_token_scores
from hedgespec.speculative.proposal import propose, ranked_children, truncate, without
from hedgespec.speculative.sparse_rows import rows_of
from hedgespec.types import SparseRows

VOCAB = 5


def random_distribution(seed: int, sharpness: float = 1.0) -> np.ndarray:
    logits = sharpness * np.random.default_rng(seed).normal(size=VOCAB)
    return np.exp(logits) / np.exp(logits).sum()


def sparse(distribution: np.ndarray, num_rows: int = 1) -> SparseRows:
    order = np.argsort(-distribution)
    one = order.astype(np.int32), distribution[order].astype(np.float32)
    return rows_of([one] * num_rows)


def recursion(p: np.ndarray, q: np.ndarray, num_children: int, is_distinct: bool) -> np.ndarray:
    """P(x is emitted and was a draft token) under recursive rejection, over all tokens the children may be: [vocab]."""

    def below(residual: np.ndarray, distribution: np.ndarray, left: int) -> np.ndarray:
        if left == 0 or distribution.sum() <= 0:
            return np.zeros(VOCAB)
        own = distribution / distribution.sum()
        kept = np.minimum(1.0, residual / np.maximum(own, 1e-300))
        total = own * kept
        rest = np.maximum(residual - own, 0.0)
        if rest.sum() <= 1e-15:
            return total
        for child in np.flatnonzero(own * (1 - kept) > 0):
            next_distribution = distribution.copy()
            if is_distinct:
                next_distribution[child] = 0.0
            total = total + own[child] * (1 - kept[child]) * below(rest / rest.sum(), next_distribution, left - 1)
        return total

    return below(p, q, num_children)


@pytest.mark.parametrize("num_children", [1, 2, 3])
def test_scores_of_iid_first_tokens_equal_enumeration(num_children: int) -> None:
    """With all of the target's distribution at hand, a(x) = P(x emitted as a draft token) / p(x), and any = its sum."""
    for seed in range(20):
        p, q = random_distribution(seed), random_distribution(1000 + seed, 2.0)
        expected = recursion(p, q, num_children, is_distinct=False)
        tokens = np.arange(VOCAB, dtype=np.int32)
        given = sparse(q, VOCAB), tokens, p.astype(np.float32), sparse(p, VOCAB), num_children, 7, np.arange(VOCAB)
        acceptance, any_accepted = first_token_scores(*given, is_distinct=False)
        np.testing.assert_allclose(acceptance, expected / p, atol=1e-5)
        np.testing.assert_allclose(any_accepted, expected.sum(), atol=1e-5)
        if num_children == 1:
            np.testing.assert_allclose(acceptance, np.minimum(1, q / p), atol=1e-5)


@pytest.mark.parametrize("num_children", [2, 3])
def test_scores_of_distinct_first_tokens_are_unbiased_over_their_own_noise(num_children: int) -> None:
    """Mean over 2000 output indices against enumeration, 3 targets and 5 tokens: beyond 4.5 standard errors once in 9000."""
    num_draws = 2000
    for seed in range(3):
        p, q = random_distribution(seed), random_distribution(1000 + seed, 2.0)
        expected = recursion(p, q, num_children, is_distinct=True) / p
        for token in range(VOCAB):
            tokens = np.full(num_draws, token, np.int32)
            probs = np.full(num_draws, p[token], np.float32)
            given = sparse(q, num_draws), tokens, probs, sparse(p, num_draws), num_children, 7, np.arange(num_draws)
            acceptance, _ = first_token_scores(*given, is_distinct=True)
            assert ((acceptance >= 0) & (acceptance <= 1)).all()
            error = acceptance.std() / np.sqrt(num_draws)
            assert abs(acceptance.mean() - expected[token]) < 4.5 * error + 1e-5


def test_what_the_target_did_not_send_makes_the_score_a_lower_bound() -> None:
    for seed in range(20):
        p, q = random_distribution(seed), random_distribution(1000 + seed, 2.0)
        tokens = np.arange(VOCAB, dtype=np.int32)
        whole = sparse(q, VOCAB), tokens, p.astype(np.float32), sparse(p, VOCAB), 3, 7, np.arange(VOCAB)
        unsent = sparse(q, VOCAB), tokens, p.astype(np.float32), None, 3, 7, np.arange(VOCAB)
        exact, _ = first_token_scores(*whole, is_distinct=False)
        bound, _ = first_token_scores(*unsent, is_distinct=False)
        assert (bound <= exact + 1e-5).all()
        assert (bound >= np.minimum(1, q / p) - 1e-5).all()


def test_chain_lengths_share_the_nodes_and_leave_no_chain_empty() -> None:
    assert chain_lengths(4, 3, 0) == [4, 4, 4]
    assert chain_lengths(4, 3, 7) == [3, 2, 2]
    assert chain_lengths(4, 3, 2) == [1, 1]
    assert chain_lengths(4, 3, 100) == [4, 4, 4]
    assert chain_lengths(0, 3, 0) == []


def draw(method: str, *, is_distinct: bool, distribution: np.ndarray, round_index: int = 0) -> MultiChain:
    chains = MultiChain(method, 5, 10, round_index, is_distinct=is_distinct, lengths=[2, 2, 1])  # type: ignore[arg-type]
    chains.extend(sparse(distribution))
    while chains.frontier:
        chains.extend(sparse(distribution, len(chains.frontier)))
    return chains


def test_chains_of_a_multi_draft_have_noise_of_their_own() -> None:
    """The samples are independent: over 400 rounds the pairs of first tokens follow the product distribution; a
    chi-square of 24 degrees of freedom is above 60 once in 16,000 seeds."""
    distribution = random_distribution(3, 0.7)
    counts = np.zeros((VOCAB, VOCAB))
    for round_index in range(400):
        chains = draw("rejection", is_distinct=False, distribution=distribution, round_index=round_index)
        counts[chains.tokens[0][0], chains.tokens[1][0]] += 1
    expected = 400 * np.outer(distribution, distribution)
    assert ((counts - expected) ** 2 / expected).sum() < 60


def test_distinct_chains_begin_with_different_tokens_drawn_without_replacement() -> None:
    distribution = random_distribution(3)
    tree = draw("rejection", is_distinct=True, distribution=distribution).finished("d")
    assert tree.parent.tolist() == [-1, 0, -1, 2, -1]
    firsts = tree.token_ids[tree.parent == -1].tolist()
    assert len(set(firsts)) == 3
    assert tree.draft_probs is not None
    for index, node in enumerate(np.flatnonzero(tree.parent == -1).tolist()):
        ids, probs = tree.draft_probs.row(node)
        rest = without((np.arange(VOCAB, dtype=np.int32), distribution.astype(np.float32)), firsts[:index])
        assert dict(zip(ids.tolist(), probs.tolist(), strict=True)) == pytest.approx(
            dict(zip(rest[0].tolist(), rest[1].tolist(), strict=True)), abs=1e-5
        )


def test_without_replacement_there_are_no_more_chains_than_tokens() -> None:
    distribution = np.array([0.7, 0.3, 0, 0, 0])
    tree = draw("rejection", is_distinct=True, distribution=distribution).finished("d")
    assert sorted(tree.token_ids[tree.parent == -1].tolist()) == [0, 1]


@pytest.mark.parametrize("method", ["greedy", "coupled"])
def test_equal_chains_are_sent_once(method: str) -> None:
    tree = draw(method, is_distinct=False, distribution=random_distribution(3)).finished("d")
    assert tree.is_chain
    assert tree.num_nodes == 2
    assert tree.draft_probs is None


@pytest.mark.parametrize("method", ["greedy", "coupled", "rejection"])
def test_children_are_ranked_with_the_proposal_first(method: str) -> None:
    """greedy and coupled: the first child is the token of a chain; weights fall and are log-probabilities."""
    probs = torch.from_numpy(np.stack([random_distribution(seed, 2.0) for seed in range(30)])).float()
    rows = truncate(probs)
    children = ranked_children(probs, method, 9, 4, 3)  # type: ignore[arg-type]
    seen = set()
    for row, (ids, weights) in enumerate(children):
        assert len(set(ids.tolist())) == len(ids) == 3
        assert (np.diff(weights) <= 0).all()
        assert weights[0] <= 0
        assert np.exp(weights).sum() <= 1 + 1e-9
        best = int(probs[row].argmax())
        expected = propose(*rows.row(row), method, 9, 4, 0) if method != "rejection" else best  # type: ignore[arg-type]
        assert ids[0] == expected
        seen.add(int(ids[0]) == best)
    assert seen == ({True, False} if method == "coupled" else {True})


def test_tokens_without_mass_are_no_children() -> None:
    ids, weights = ranked_children(torch.tensor([[0.0, 1.0, 0.0]]), "rejection", 0, 0, 3)[0]
    assert (ids.tolist(), weights.tolist()) == ([1], [0.0])
