"""Scores of verified tokens average to what they should, by enumeration over the realised token."""

import numpy as np
import pytest
import torch

from hedgespec.sampling.processing import process_logits
from hedgespec.speculative.acceptance import accept
from hedgespec.speculative.proposal import propose, truncate
from hedgespec.speculative.scoring import coupled_acceptance, probs_of, rejection_acceptance, rejection_scores
from hedgespec.speculative.verification import VerifyContext
from hedgespec.types import EMPTY_DRAFT, DraftTree, SamplingParams, SparseRows

VOCAB = 20


def random_distributions(num_rows: int, seed: int) -> torch.Tensor:
    logits = 1.5 * torch.randn(num_rows, VOCAB, generator=torch.Generator().manual_seed(seed))
    return process_logits(logits, SamplingParams(top_p=0.97))


def top_of(distribution: np.ndarray, num_ids: int) -> SparseRows:
    ids = np.argsort(-distribution, kind="stable")[:num_ids].astype(np.int32)
    ids = ids[distribution[ids] > 0]
    return SparseRows(np.array([0, len(ids)], np.int32), ids, distribution[ids])


def dense(rows: SparseRows) -> np.ndarray:
    out = np.zeros((rows.num_rows, VOCAB))
    for row in range(rows.num_rows):
        ids, values = rows.row(row)
        out[row, ids] = values
    return out


@pytest.mark.parametrize("seed", range(10))
def test_expected_acceptance_under_the_target_is_the_overlap(seed):
    """sum_x p(x) min(1, q(x)/p(x)) = sum_x min(p, q), enumerated over every realised x."""
    target = random_distributions(1, seed)[0].numpy()
    rows = truncate(random_distributions(1, seed + 100))
    expected = 0.0
    for token in np.flatnonzero(target):
        score = rejection_acceptance(probs_of(rows), np.array([token]), target[[token]])
        expected += float(target[token]) * float(score[0])
    assert expected == pytest.approx(np.minimum(target, dense(rows)[0]).sum(), abs=1e-6)


@pytest.mark.parametrize("num_top", [1, 3, 8, VOCAB])
@pytest.mark.parametrize("seed", range(5))
def test_acceptance_prob_is_unbiased_however_few_target_ids_are_known(seed, num_top):
    """Enumerated over the realised token: the estimate averages to sum_x min(p, q) for every size of S."""
    target = random_distributions(1, seed)[0].numpy()
    rows = truncate(random_distributions(1, seed + 100))
    top = top_of(target, num_top)
    expected = sum(
        float(target[token]) * float(rejection_scores(probs_of(rows), np.array([token]), target[[token]], top)[1][0])
        for token in np.flatnonzero(target)
    )
    assert expected == pytest.approx(np.minimum(target, dense(rows)[0]).sum(), abs=1e-6)


def test_rows_are_scored_independently_of_their_neighbours():
    targets, rows = random_distributions(4, 1).numpy(), truncate(random_distributions(4, 2))
    tokens = targets.argmax(axis=1).astype(np.int32)
    probs = targets[np.arange(4), tokens]
    tops = [top_of(distribution, 3) for distribution in targets]
    offsets = np.arange(0, 13, 3, dtype=np.int32)
    top = SparseRows(offsets, np.concatenate([t.ids for t in tops]), np.concatenate([t.probs for t in tops]))
    together = rejection_scores(probs_of(rows), tokens, probs, top)
    for row in range(4):
        ids, values = rows.row(row)
        alone = SparseRows(np.array([0, len(ids)], np.int32), ids, values)
        one = (probs_of(alone), tokens[[row]], probs[[row]])
        assert rejection_acceptance(*one)[0] == together[0][row]
        assert [values[0] for values in rejection_scores(*one, tops[row])] == [values[row] for values in together]


def test_at_temperature_zero_both_scores_are_hits_of_the_argmax():
    params = SamplingParams(temperature=0.0)
    rows = truncate(process_logits(torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]]), params))
    tokens, probs = np.array([1, 2], np.int32), np.ones(2, np.float32)
    top = SparseRows(np.array([0, 1, 2], np.int32), tokens, probs)
    assert [values.tolist() for values in rejection_scores(probs_of(rows), tokens, probs, top)] == [[1.0, 0.0]] * 2


def test_coupled_scores_say_exactly_whether_the_draft_would_have_been_accepted():
    """The score of the realised token equals the outcome of really drafting and verifying, for 200 seeds."""
    params = SamplingParams(seed=1)
    outcomes = []
    for seed in range(200):
        logits = 1.5 * torch.randn(2, VOCAB, generator=torch.Generator().manual_seed(seed))
        rows = (
            truncate(process_logits(logits[:1] + 0.7, params)) if seed % 2 else truncate(random_distributions(1, seed))
        )
        draft = DraftTree.chain(np.array([propose(*rows.row(0), "coupled", seed, 4, 0)]))
        context = VerifyContext(params, seed, 4)
        verdict = accept([draft], logits, [context])[0]
        realised = accept([EMPTY_DRAFT], logits[:1], [context])[0]
        score = coupled_acceptance(rows, realised.token_ids, seed, np.array([4]))
        assert score.tolist() == [float(verdict.num_accepted)]
        outcomes.append(verdict.num_accepted)
    assert 20 < sum(outcomes) < 200


def test_scores_stay_within_zero_and_one_when_the_target_probability_was_rounded_to_zero():
    rows = truncate(torch.tensor([[0.5, 0.5]]))
    scores = rejection_acceptance(probs_of(rows), np.array([1], np.int32), np.zeros(1, np.float32))
    assert scores.tolist() == [1.0]


def test_no_tokens_give_no_scores():
    rows = truncate(torch.zeros(0, 5))
    nothing = np.zeros(0, np.int32), np.zeros(0, np.float32)
    assert rejection_acceptance(probs_of(rows), *nothing).shape == (0,)
    assert coupled_acceptance(rows, nothing[0], 0, np.zeros(0, np.int64)).shape == (0,)
    empty_top = SparseRows(np.zeros(1, np.int32), *nothing)
    assert [values.shape for values in rejection_scores(probs_of(rows), *nothing, empty_top)] == [(0,), (0,)]
