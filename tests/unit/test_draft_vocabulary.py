"""Distributions over a head's own ids are those of the rows over the whole vocabulary, whatever shapes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hedgespec.models.drafting.vocabulary import DraftVocabulary
from hedgespec.sampling.processing import process_logits, shape_logits
from hedgespec.sampling.token_counts import token_counts
from hedgespec.speculative.proposal import truncate
from hedgespec.types import SamplingParams

VOCAB, NUM_COLUMNS, NUM_ROWS = 60, 25, 7
TARGETS = torch.randperm(VOCAB, generator=torch.Generator().manual_seed(0))[:NUM_COLUMNS].sort().values
FAVOURED = int(TARGETS[3])
ANCESTORS = [[FAVOURED] * (row % 3) for row in range(NUM_ROWS)]

SHAPES = {
    "neutral": SamplingParams(),
    "warm": SamplingParams(temperature=0.6, top_p=0.8, top_k=9),
    "bias": SamplingParams(logit_bias=((FAVOURED, 9.0),)),
    "penalties": SamplingParams(frequency_penalty=1.5, repetition_penalty=1.4, logit_bias=((FAVOURED, 4.0),)),
}


def vocabulary_and_rows(is_whole: bool) -> tuple[DraftVocabulary, torch.Tensor, torch.Tensor]:
    """Return a vocabulary, the logits that it is given, and those of the whole vocabulary."""
    logits = 2.0 * torch.randn(NUM_ROWS, NUM_COLUMNS, generator=torch.Generator().manual_seed(1))
    full = torch.full((NUM_ROWS, VOCAB), -torch.inf)
    full[:, TARGETS] = logits
    return (DraftVocabulary(VOCAB), full, full) if is_whole else (DraftVocabulary(VOCAB, TARGETS), logits, full)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("is_whole", [False, True], ids=["own ids", "whole"])
def test_all_answers_are_those_of_the_whole_vocabulary(shape: str, is_whole: bool) -> None:
    params = SHAPES[shape]
    vocabulary, logits, full = vocabulary_and_rows(is_whole)
    counts = token_counts(params, [1, 2], [FAVOURED, 5])
    given = params, counts, ANCESTORS
    assert torch.equal(vocabulary.spread(logits), full)
    greedy = shape_logits(full, *given).argmax(dim=-1)
    assert vocabulary.greedy_ids(logits, *given).tolist() == greedy.tolist()
    expected, kept = truncate(process_logits(full, *given)), vocabulary.truncated(logits, *given)
    assert kept.ids.tolist() == expected.ids.tolist()
    np.testing.assert_allclose(kept.probs, expected.probs, rtol=1e-5)
    dense = np.zeros((NUM_ROWS, VOCAB))
    dense[np.repeat(np.arange(NUM_ROWS), np.diff(expected.offsets)), expected.ids] = expected.probs
    rows, ids = (index.ravel() for index in np.indices((NUM_ROWS, VOCAB)))
    found = vocabulary.draft_probs(logits, *given)(rows, ids.astype(np.int32))
    np.testing.assert_allclose(found.reshape(dense.shape), dense, rtol=1e-5, atol=1e-9)


def test_a_bias_changes_the_greedy_choice_of_these_rows() -> None:
    """The comparison above would prove nothing if the bias changed no choice."""
    vocabulary, logits, _ = vocabulary_and_rows(is_whole=True)
    neutral = vocabulary.greedy_ids(logits, SHAPES["neutral"], None, ANCESTORS)
    biased = vocabulary.greedy_ids(logits, SHAPES["bias"], None, ANCESTORS)
    assert biased.tolist() == [FAVOURED] * NUM_ROWS
    assert neutral.tolist() != biased.tolist()
