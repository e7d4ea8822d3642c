"""The truncated draft distribution and the token proposed from it."""

import sys

import numpy as np
import pytest
import torch

from hedgespec.speculative import proposal
from hedgespec.speculative.noise import gumbels
from hedgespec.speculative.proposal import propose, truncate
from hedgespec.speculative.sparse_rows import concatenate
from hedgespec.types import MAX_SPARSE_IDS, SPARSE_MASS


def random_rows(num_rows: int, vocab: int, sharpness: float, seed: int = 0) -> torch.Tensor:
    return (sharpness * torch.randn(num_rows, vocab, generator=torch.Generator().manual_seed(seed))).softmax(dim=-1)


@pytest.mark.parametrize("sharpness", [0.5, 2.0, 6.0])
def test_truncation_keeps_the_smallest_set_with_enough_mass(sharpness):
    """Enough mass with the last id, too little without it, and every kept id is at least as probable as the others."""
    probs = random_rows(8, 300, sharpness)
    rows = truncate(probs)
    for index in range(rows.num_rows):
        ids, values = rows.row(index)
        kept = probs[index].numpy()[ids]
        assert kept.sum() >= SPARSE_MASS - 1e-6
        assert kept[:-1].sum() < SPARSE_MASS
        assert kept.min() >= np.delete(probs[index].numpy(), ids).max()
        np.testing.assert_allclose(values, kept / kept.sum(), rtol=1e-5)
        assert abs(values.sum(dtype=np.float64) - 1) < 1e-5


def test_truncation_never_keeps_more_ids_than_may_travel():
    rows = truncate(torch.full((2, 4000), 1 / 4000))
    assert np.diff(rows.offsets).tolist() == [MAX_SPARSE_IDS, MAX_SPARSE_IDS]
    np.testing.assert_allclose(rows.probs, 1 / MAX_SPARSE_IDS, rtol=1e-6)


def test_truncation_of_a_certain_row_keeps_one_id_and_of_no_rows_nothing():
    rows = truncate(torch.eye(5)[[3, 0]])
    assert rows.ids.tolist() == [3, 0]
    assert rows.probs.tolist() == [1.0, 1.0]
    assert truncate(torch.zeros(0, 5)).num_rows == 0


def test_entries_come_by_falling_probability():
    rows = truncate(torch.tensor([[0.21, 0.1, 0.4, 0.09, 0.2]]))
    assert rows.ids.tolist() == [2, 0, 4, 1, 3]


def test_rejection_samples_each_id_on_an_interval_as_long_as_its_probability(monkeypatch):
    """The exact distribution of the proposal: the noise interval of each id is found by probing both of its ends."""
    ids, probs = truncate(random_rows(1, 40, 1.5)).row(0)
    distribution = probs.astype(np.float64) / probs.sum(dtype=np.float64)
    ends = np.cumsum(distribution)
    for index, token in enumerate(ids.tolist()):
        for point in (ends[index] - distribution[index] + 1e-12, ends[index] - 1e-12):
            monkeypatch.setattr(proposal, "uniform", lambda *args, point=point, **kwargs: point)
            assert propose(ids, probs, "rejection", 0, 0, 0) == token


def test_an_id_without_mass_is_never_proposed(monkeypatch):
    ids, probs = np.array([4, 5, 6], np.int32), np.array([0.0, 1.0, 0.0], np.float32)
    for point in (2.0**-53, 0.5, 1 - 2.0**-53):
        monkeypatch.setattr(proposal, "uniform", lambda *args, point=point, **kwargs: point)
        assert propose(ids, probs, "rejection", 0, 0, 0) == 5


def test_a_redrafted_position_gets_fresh_noise_only_under_rejection():
    """Rejection needs independent drafts per round; the keyed sample must be the same in every round."""
    ids, probs = np.arange(50, dtype=np.int32), np.full(50, 0.02, np.float32)
    fresh = {propose(ids, probs, "rejection", 1, 9, round_index) for round_index in range(20)}
    keyed = {propose(ids, probs, "coupled", 1, 9, round_index) for round_index in range(20)}
    assert len(fresh) > 5
    assert len(keyed) == 1


def test_greedy_proposes_the_most_probable_id_lowest_on_ties():
    assert propose(np.array([7, 3, 5], np.int32), np.array([0.4, 0.4, 0.2], np.float32), "greedy", 0, 0, 0) == 3


def test_coupled_proposes_the_argmax_under_the_shared_noise():
    ids, probs = truncate(random_rows(1, 60, 1.0)).row(0)
    for index in range(30):
        scores = np.log(probs.astype(np.float64)) + gumbels(77, index, ids)
        assert propose(ids, probs, "coupled", 77, index, 0) == ids[scores.argmax()]


def test_concatenated_rows_equal_the_block_they_were_cut_from():
    probs = random_rows(4, 30, 2.0)
    whole, parts = truncate(probs), concatenate([truncate(probs[:1]), truncate(probs[1:1]), truncate(probs[1:])])
    for name in ("offsets", "ids", "probs"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))
        assert getattr(whole, name).dtype == getattr(parts, name).dtype
    assert concatenate([]).num_rows == 0


def test_proposal_and_scoring_can_be_imported_without_torch():
    """The n-gram drafter's process has no torch; checked in a fresh interpreter."""
    import subprocess

    code = "import sys, hedgespec.speculative.proposal, hedgespec.speculative.scoring; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
