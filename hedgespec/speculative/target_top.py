"""The largest probabilities of the target's distributions, which is all of them that travels."""

from __future__ import annotations

from torch import Tensor

from hedgespec.sampling.processing import soft_distribution
from hedgespec.speculative.sparse_rows import selected_rows
from hedgespec.types import SamplingParams, SparseRows

NUM_PROMPT_TOP = 64
"""Ids per prompt token that are sent for prompt-time scores."""


def largest_probs(probs: Tensor, num_ids: int) -> SparseRows:
    """Keep the largest probabilities of each row, without zeros and not renormalised."""
    largest = probs.topk(min(num_ids, probs.shape[1]), dim=-1)
    values, ids = largest.values.float().cpu().numpy(), largest.indices.int().cpu().numpy()
    return selected_rows(ids, values, values > 0)


def prompt_top(logits: Tensor, params: SamplingParams) -> SparseRows:
    """Return the target's distributions of prompt tokens, for scoring drafters before the first round.

    logits: [num_rows, vocab], each row after the token before the prompt token in question. They are processed like the
    answer's, but soft at temperature 0, where the prompt's own token is rarely the argmax; what counts the answer's tokens
    is left out.
    """
    return largest_probs(soft_distribution(logits, params, None, None), NUM_PROMPT_TOP)
