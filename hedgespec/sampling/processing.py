"""Logits become the distribution that tokens are sampled from, shaped by a request's sampling parameters.

The target and the drafters use the same functions: a drafter that shapes its distribution like the target is accepted more
often. The order of the parameters is vLLM's; neutral ones cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hedgespec.sampling.parameter import plan
from hedgespec.sampling.token_counts import TokenCounts
from hedgespec.types import SamplingParams

Ancestors = Sequence[Sequence[int]]


def process_logits(
    logits: Tensor, params: SamplingParams, counts: TokenCounts | None = None, ancestors: Ancestors | None = None
) -> Tensor:
    """Return the distribution of every row; `logits` is not changed.

    logits:    [rows, vocab], any float type; -inf masks an id
    counts:    tokens of the session; None leaves out the parameters that read counts
    ancestors: per row, the draft tokens between the last emitted token and the row; read with the counts
    Returns [rows, vocab] float32 (float64 for float64 logits). Temperature 0 gives all mass to the largest logit, the
    lowest id on ties. A row without any finite logit gives all mass to one id.
    """
    logits = shape_logits(logits, params, counts, ancestors)
    return one_hot_argmax(logits) if params.method == "greedy" else filtered_softmax(logits, params)


def soft_distribution(
    logits: Tensor, params: SamplingParams, counts: TokenCounts | None, ancestors: Ancestors | None
) -> Tensor:
    """Like `process_logits`, but at temperature 0 the softmax at temperature 1: in float64, so that what the argmax
    distinguishes is not rounded to a tie."""
    if params.method == "greedy":
        return shape_logits(logits, params, counts, ancestors).double().softmax(dim=-1)
    return process_logits(logits, params, counts, ancestors)


def shape_logits(
    logits: Tensor, params: SamplingParams, counts: TokenCounts | None = None, ancestors: Ancestors | None = None
) -> Tensor:
    """Apply the parameters of the stage `logits`, which can move the maximum. Arguments as of `process_logits`.

    Returns float32 or float64, `logits` itself when there is nothing to do.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    own = plan(params)
    row_counts = counts.of_rows(logits, ancestors) if counts is not None and own.reads_counts else None
    shaping = [pair for pair in own.shaping if row_counts is not None or not pair[0].reads_counts]
    shaped = logits.clone() if shaping else logits
    for parameter, value in shaping:
        shaped = parameter.apply(shaped, value, row_counts)
    return shaped


def filtered_softmax(logits: Tensor, params: SamplingParams) -> Tensor:
    """Turn shaped logits into probabilities by the stages `scaled` and `probs`, at a temperature above 0: [rows, vocab]."""
    if not len(logits):
        return torch.zeros_like(logits)
    largest = logits.amax(dim=-1, keepdim=True)
    scaled = logits - largest  # before anything is divided: it stays finite
    for parameter, value in plan(params).filters:
        if parameter.stage == "scaled":
            scaled = parameter.apply(scaled, value, None)
    probs = scaled.softmax(dim=-1)
    for parameter, value in plan(params).filters:
        if parameter.stage == "probs":
            probs = parameter.apply(probs, value, None)
            probs = probs / probs.sum(dim=-1, keepdim=True)
    is_broken = ~largest.isfinite()
    if not probs.is_cpu or bool(is_broken.any()):  # on other devices asking costs more than replacing in vain
        probs = torch.where(is_broken, one_hot_argmax(logits), probs)
    return probs


def one_hot_argmax(logits: Tensor) -> Tensor:
    """Put all mass on the largest logit of each row, the lowest id on ties; NaN counts as masked."""
    return torch.zeros_like(logits).scatter_(-1, largest_ids(logits).unsqueeze(-1), 1.0)


def largest_ids(logits: Tensor) -> Tensor:
    """Return the id of each row's largest logit, the lowest one on ties, [rows]; NaN counts as masked."""
    logits = logits.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    is_numpy = logits.is_cpu and logits.dtype != torch.bfloat16
    # torch takes nine times as long as NumPy on the CPU: 15 us for 6 rows of 4,096
    return torch.from_numpy(logits.numpy().argmax(axis=-1)) if is_numpy else logits.argmax(dim=-1)
