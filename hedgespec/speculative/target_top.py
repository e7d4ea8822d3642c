"""What travels of the target's distributions: its largest probabilities."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from hedgespec.sampling.processing import softened
from hedgespec.types import SamplingParams, SparseRows

NUM_PROMPT_TOP = 64
"""Ids per prompt token that are sent for prompt-time scores."""


def largest_probs(probs: Tensor, num_ids: int) -> SparseRows:
    """The largest probabilities of each row, without the zeros; not renormalised."""
    largest = probs.topk(min(num_ids, probs.shape[1]), dim=-1)
    values, ids = largest.values.float().cpu().numpy(), largest.indices.int().cpu().numpy()
    kept = values > 0
    offsets = np.concatenate(([0], np.cumsum(kept.sum(axis=1)))).astype(np.int32)
    return SparseRows(offsets, ids[kept], values[kept])


def prompt_top(logits: Tensor, params: SamplingParams) -> SparseRows:
    """The laws of prompt tokens, for scoring drafters before the first round.

    logits: [num_rows, vocab], each after the token before the one that the law is of. Shaped like the answer's laws, but
    soft at temperature 0, where the prompt's own token is rarely the argmax; penalties, which count the answer's tokens,
    are left out.
    """
    return largest_probs(softened(logits, params, None, None), NUM_PROMPT_TOP)
