"""Sampling in torch gives what sampling in NumPy gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hedgespec.sampling.processing import process_logits
from hedgespec.speculative.device_sampling import (
    device_gumbels,
    draw,
    draw_coupled,
    shaping_of,
    truncated_distributions,
)
from hedgespec.speculative.noise import Purpose, coupled_keys, gumbels, uniform
from hedgespec.speculative.proposal import propose, truncate
from hedgespec.types import MAX_SPARSE_IDS, SPARSE_MASS, SamplingParams

PARAMS = [
    SamplingParams(temperature=1.0),
    SamplingParams(temperature=0.3),
    SamplingParams(temperature=1e-6),
    SamplingParams(temperature=1.0, top_k=7),
    SamplingParams(temperature=1.0, top_k=1),
    SamplingParams(temperature=2.0, top_p=0.8),
    SamplingParams(temperature=2.0, top_p=0.01),
    SamplingParams(temperature=1.5, top_p=0.9, top_k=20),
]
NUM_ROWS = 40


def rows_of(logits: torch.Tensor, params: SamplingParams) -> tuple[torch.Tensor, torch.Tensor]:
    return truncated_distributions(logits, shaping_of([params] * len(logits)), MAX_SPARSE_IDS, SPARSE_MASS)


@pytest.mark.parametrize("params", PARAMS, ids=str)
@pytest.mark.parametrize("num_columns", [5, 96, 1024, 3000])
def test_distributions_are_those_of_numpy(params: SamplingParams, num_columns: int) -> None:
    logits = 4 * torch.randn(NUM_ROWS, num_columns, generator=torch.Generator().manual_seed(num_columns))
    columns, probs = rows_of(logits, params)
    expected = truncate(process_logits(logits, params))
    for row in range(NUM_ROWS):
        ids, values = expected.row(row)
        num_ids = int((probs[row] > 0).sum())
        assert num_ids == len(ids)
        np.testing.assert_array_equal(columns[row, :num_ids].numpy(), ids)
        np.testing.assert_allclose(probs[row, :num_ids].numpy(), values, rtol=1e-5)
        assert not probs[row, num_ids:].any()


def test_rows_have_parameters_of_their_own() -> None:
    logits = 4 * torch.randn(len(PARAMS), 96, generator=torch.Generator().manual_seed(1))
    columns, probs = truncated_distributions(logits, shaping_of(PARAMS), MAX_SPARSE_IDS, SPARSE_MASS)
    for row, params in enumerate(PARAMS):
        own_columns, own_probs = rows_of(logits[row : row + 1], params)
        assert torch.equal(columns[row], own_columns[0])
        torch.testing.assert_close(probs[row], own_probs[0])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_broken_logits_still_give_a_distribution(value: float) -> None:
    logits = torch.randn(2, 50, generator=torch.Generator().manual_seed(2))
    logits[0, 3] = value
    logits[1] = value
    _, probs = rows_of(logits, SamplingParams(temperature=1.0))
    torch.testing.assert_close(probs.sum(dim=1), torch.ones(2))


@pytest.mark.parametrize("seed", [0, 1, -7, 2**63 + 11])
def test_noise_is_that_of_numpy_to_the_last_bit(seed: int) -> None:
    indices, ids = np.array([0, 1, 77, 100_000]), np.array([0, 1, 5, 127_999, 2**31 - 1])
    keys = torch.from_numpy(coupled_keys(seed, indices))
    actual = device_gumbels(keys, torch.from_numpy(ids).expand(4, -1))
    expected = np.stack([gumbels(seed, int(index), ids) for index in indices])
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("params", PARAMS[:2] + PARAMS[3:4], ids=str)
def test_draws_are_those_of_numpy(params: SamplingParams) -> None:
    """The same token for the same noise, 400 times each."""
    logits = 3 * torch.randn(400, 96, generator=torch.Generator().manual_seed(3))
    columns, probs = rows_of(logits, params)
    distributions = truncate(process_logits(logits, params))
    seeds = range(400)
    points = torch.tensor([uniform(seed, 9, Purpose.DRAFT, round_index=4) for seed in seeds], dtype=torch.float64)
    keys = torch.from_numpy(np.concatenate([coupled_keys(seed, [9]) for seed in seeds]))
    sampled = columns.gather(1, draw(probs, points)[:, None])[:, 0]
    coupled = columns.gather(1, draw_coupled(columns, probs, keys)[:, None])[:, 0]
    for method, actual in (("rejection", sampled), ("coupled", coupled)):
        expected = [propose(*distributions.row(seed), method, seed, 9, 4) for seed in seeds]  # type: ignore[arg-type]
        assert actual.tolist() == expected
        assert len(set(expected)) > 5


def test_a_point_at_the_end_stays_within_the_distribution() -> None:
    probs = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    assert draw(probs, torch.tensor([1.0, 1.0], dtype=torch.float64)).tolist() == [1, 0]
