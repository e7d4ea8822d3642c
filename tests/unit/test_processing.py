"""Sampling parameters against a plain NumPy reference, and the rows that would divide by zero."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hedgespec.sampling.processing import process_logits, shape_logits
from hedgespec.sampling.token_counts import TokenCounts
from hedgespec.types import SamplingParams

VOCAB = 12


def reference(logits: np.ndarray, params: SamplingParams, prompt: list[int], answer: list[int]) -> np.ndarray:
    """One row, written down the way the parameters are documented; ids that tie with the last one kept are kept."""
    row = logits.astype(np.float64).copy()
    for token, bias in params.logit_bias:
        row[token] += bias
    for token in set(prompt) | set(answer):
        row[token] = (
            row[token] / params.repetition_penalty if row[token] > 0 else row[token] * params.repetition_penalty
        )
        row[token] -= params.frequency_penalty * answer.count(token)
        row[token] -= params.presence_penalty * (token in answer)
    if params.temperature == 0:
        return np.eye(len(row))[int(np.argmax(row))]
    row = row / params.temperature
    if params.top_k:
        row[row < np.sort(row)[::-1][min(params.top_k, len(row)) - 1]] = -np.inf
    probs = np.exp(row - row.max())
    probs /= probs.sum()
    falling = np.sort(probs)[::-1]
    needed = int(np.argmax(np.cumsum(falling) >= params.top_p - 1e-12)) if params.top_p < 1 else len(row) - 1
    probs[probs < falling[needed]] = 0
    return probs / probs.sum()


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.5]),
    top_k=st.sampled_from([0, 1, 3, 11, 12, 50]),
    top_p=st.sampled_from([1.0, 0.95, 0.5, 0.01]),
    bias=st.lists(st.tuples(st.integers(0, VOCAB - 1), st.floats(-5, 5)), max_size=3),
    presence=st.sampled_from([0.0, 0.7, -0.5]),
    frequency=st.sampled_from([0.0, 0.4]),
    repetition=st.sampled_from([1.0, 1.3, 0.8]),
)
def test_processed_rows_match_the_reference_including_draft_ancestors(
    seed, temperature, top_k, top_p, bias, presence, frequency, repetition
):
    """Every parameter alone and together; each row sees the answer plus its own draft ancestors."""
    params = SamplingParams(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        logit_bias=tuple(bias),
        presence_penalty=presence,
        frequency_penalty=frequency,
        repetition_penalty=repetition,
    )
    rng = np.random.default_rng(seed)
    prompt, answer, draft = (rng.integers(0, VOCAB, size=n).tolist() for n in (5, 4, 2))
    logits = 2 * rng.normal(size=(3, VOCAB))
    counts = TokenCounts(prompt, answer)
    probs = process_logits(torch.from_numpy(logits), params, counts, [draft[:row] for row in range(3)]).numpy()
    expected = [reference(logits[row], params, prompt, answer + draft[:row]) for row in range(3)]
    np.testing.assert_allclose(probs, expected, atol=1e-12)


def test_appended_tokens_count_like_tokens_known_from_the_start():
    """A session that grew token by token and one that was opened after a failure are penalised alike."""
    grown, reopened = TokenCounts([1, 1, 2]), TokenCounts([1, 1, 2], [3, 3, 1])
    grown.append([3])
    grown.append([3, 1])
    params = SamplingParams(presence_penalty=0.5, frequency_penalty=0.25, repetition_penalty=1.5)
    logits = torch.randn(1, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(process_logits(logits, params, grown), process_logits(logits, params, reopened))


def test_prompt_tokens_are_penalised_by_repetition_only():
    logits = torch.tensor([[2.0, 2.0, -2.0, 2.0]], dtype=torch.float64)
    params = SamplingParams(presence_penalty=1.0, frequency_penalty=1.0, repetition_penalty=2.0)
    shaped = shape_logits(logits, params, TokenCounts([0, 2], [3, 3]))
    assert shaped.tolist() == [[1.0, 2.0, -4.0, 1.0 - 2.0 - 1.0]]


def test_inputs_are_never_changed_and_neutral_parameters_copy_nothing():
    logits = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))
    before = logits.clone()
    process_logits(logits, SamplingParams(logit_bias=((0, 3.0),), repetition_penalty=1.2), TokenCounts([1], [2]))
    process_logits(logits, SamplingParams(temperature=0.5, top_k=2, top_p=0.5))
    assert torch.equal(logits, before)
    assert shape_logits(logits, SamplingParams(), TokenCounts([1], [2])) is logits


def test_temperature_zero_takes_the_lowest_id_on_ties():
    probs = process_logits(torch.tensor([[1.0, 3.0, 3.0, 0.0]]), SamplingParams(temperature=0.0))
    assert probs.tolist() == [[0.0, 1.0, 0.0, 0.0]]


def test_bias_and_penalties_move_the_argmax_at_temperature_zero():
    params = SamplingParams(temperature=0.0, logit_bias=((3, 5.0),))
    assert process_logits(torch.tensor([[1.0, 3.0, 3.0, 0.0]]), params).argmax() == 3
    params = SamplingParams(temperature=0.0, presence_penalty=2.0)
    assert process_logits(torch.tensor([[1.0, 3.0, 2.5, 0.0]]), params, TokenCounts([], [1])).argmax() == 2


def test_masked_ids_stay_at_zero_and_fully_masked_rows_are_still_a_distribution():
    """A drafter's vocabulary may exclude ids, even all of them that the parameters allow."""
    logits = torch.tensor([[-torch.inf, 1.0, 1.0], [-torch.inf] * 3, [torch.nan, 0.0, 1.0]])
    for params in (SamplingParams(), SamplingParams(top_k=2, top_p=0.9), SamplingParams(temperature=0.0)):
        probs = process_logits(logits, params)
        assert probs[0, 0] == 0.0
        np.testing.assert_allclose(probs.sum(dim=-1), 1.0, rtol=1e-6)
        assert probs.isfinite().all()
        assert probs[2].argmax() == 2


@pytest.mark.parametrize("temperature", [1e-45, 1e-30, 1e-6, 1e-3, 1e4])
def test_extreme_temperatures_give_finite_distributions(temperature):
    logits = torch.tensor([[90.0, -80.0, 89.0]])
    probs = process_logits(logits, SamplingParams(temperature=temperature))
    assert probs.isfinite().all()
    np.testing.assert_allclose(probs.sum(), 1.0, rtol=1e-6)
    assert probs.argmax() == 0


def test_top_p_is_exact_when_the_nucleus_is_longer_than_the_sorted_prefix():
    """A flat row over a large vocabulary needs more ids than the prefix that is sorted first."""
    logits = torch.linspace(0, 0.01, 5000, dtype=torch.float64)[None]
    probs = process_logits(logits, SamplingParams(top_p=0.8))
    distribution = logits.softmax(dim=-1)
    num_kept = int((probs > 0).sum())
    assert float(distribution[0, -num_kept:].sum()) >= 0.8
    assert float(distribution[0, -num_kept + 1 :].sum()) < 0.8


def test_half_precision_logits_are_processed_in_float32():
    probs = process_logits(torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.bfloat16), SamplingParams(top_p=0.9))
    assert probs.dtype == torch.float32


def test_no_rows_give_no_rows():
    assert process_logits(torch.zeros(0, 5), SamplingParams(top_k=2, top_p=0.5)).shape == (0, 5)
