"""Logits -> the distribution that is sampled from, shaped by a request's sampling parameters.

The order is vLLM's: logit bias, penalties, temperature, top-k, top-p. The target and the drafters use the same
functions: a drafter that shapes its distribution like the target is accepted more often. What is neutral costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from hedgespec.types import SamplingParams

MIN_TEMPERATURE = 1e-6
"""Smaller ones would overflow float32; at this one already nothing but near-ties of the maximum survives."""

TOP_P_PREFIX = 1024
"""So many largest probabilities are sorted first; a row that needs more of them is sorted whole."""


class TokenCounts:
    """How often each id stands in a session's prompt and answer; what penalties look at. Grows by `append`."""

    def __init__(self, prompt_ids: ArrayLike, emitted_ids: ArrayLike = ()) -> None:
        self._seen: dict[int, int] = dict.fromkeys(np.unique(np.asarray(prompt_ids, np.int64)).tolist(), 0)
        self.append(emitted_ids)

    def append(self, token_ids: ArrayLike) -> None:
        """Count emitted tokens."""
        for token in np.asarray(token_ids, np.int64).tolist():
            self._seen[token] = self._seen.get(token, 0) + 1

    def with_ancestors(self, ancestors: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Ids of prompt, answer and draft ancestors, and how often each stands in the answer (ancestors included)."""
        seen = self._seen
        if len(ancestors):
            seen = seen.copy()
            for token in ancestors:
                seen[int(token)] = seen.get(int(token), 0) + 1
        return np.fromiter(seen.keys(), np.int64, len(seen)), np.fromiter(seen.values(), np.float32, len(seen))


def process_logits(
    logits: Tensor,
    params: SamplingParams,
    counts: TokenCounts | None = None,
    ancestors: Sequence[Sequence[int]] | None = None,
) -> Tensor:
    """The processed distribution of every row; `logits` is not changed.

    logits:    [rows, vocab], any float type; -inf masks an id
    counts:    prompt and emitted tokens of the session; needed only for penalties
    ancestors: per row, the draft tokens between the last emitted token and the row; needed only for penalties
    Returns [rows, vocab] float32 (float64 for float64 logits). Temperature 0 gives all mass to the largest logit, the
    lowest id on ties. A row without any finite logit gives all mass to one id.
    """
    logits = shape_logits(logits, params, counts, ancestors)
    return one_hot_argmax(logits) if params.method == "greedy" else warp(logits, params)


def shape_logits(
    logits: Tensor,
    params: SamplingParams,
    counts: TokenCounts | None = None,
    ancestors: Sequence[Sequence[int]] | None = None,
) -> Tensor:
    """Apply logit bias and penalties, everything that can move the maximum. Same shapes as `process_logits`; float32 or
    float64, possibly `logits` itself when there is nothing to do."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if not params.logit_bias and not (params.has_penalties and counts is not None):
        return logits
    logits = logits.clone()
    if params.logit_bias:
        ids = torch.tensor([token for token, _ in params.logit_bias], device=logits.device)
        bias = torch.tensor([value for _, value in params.logit_bias], dtype=logits.dtype, device=logits.device)
        logits.index_add_(1, ids, bias.expand(len(logits), -1))
    if params.has_penalties and counts is not None:
        for row in range(len(logits)):
            _penalise(logits[row], params, *counts.with_ancestors(ancestors[row] if ancestors is not None else ()))
    return logits


def warp(logits: Tensor, params: SamplingParams) -> Tensor:
    """Temperature (above 0), softmax, top-k and top-p of shaped logits: [rows, vocab] -> probabilities [rows, vocab].

    Ids that tie with the last one kept are kept too, so that the result does not depend on the order of ids.
    """
    if not len(logits):
        return torch.zeros_like(logits)
    largest = logits.amax(dim=-1, keepdim=True)
    scaled = (logits - largest) / max(params.temperature, MIN_TEMPERATURE)  # the maximum first: it stays finite
    if 0 < params.top_k < logits.shape[-1]:
        last = scaled.topk(params.top_k, dim=-1).values[:, -1:]
        scaled = scaled.masked_fill(scaled < last, -torch.inf)
    probs = scaled.softmax(dim=-1)
    if params.top_p < 1.0:
        probs = probs.masked_fill(probs < _nucleus_floor(probs, params.top_p), 0.0)
        probs = probs / probs.sum(dim=-1, keepdim=True)
    broken = ~largest.isfinite().squeeze(-1)
    if bool(broken.any()):
        probs[broken] = one_hot_argmax(logits[broken])
    return probs


def one_hot_argmax(logits: Tensor) -> Tensor:
    """All mass on the largest logit of each row, the lowest id on ties; NaN counts as masked."""
    best = logits.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf).argmax(dim=-1, keepdim=True)
    return torch.zeros_like(logits).scatter_(-1, best, 1.0)


def _penalise(row: Tensor, params: SamplingParams, ids: NDArray[np.int64], num_emitted: NDArray[np.float32]) -> None:
    """Change one row [vocab] in place: repetition over prompt and answer, presence and frequency over the answer."""
    index = torch.from_numpy(ids).to(row.device)
    emitted = torch.from_numpy(num_emitted).to(row.device, row.dtype)
    values = row[index]
    values = torch.where(values > 0, values / params.repetition_penalty, values * params.repetition_penalty)
    values = values - params.frequency_penalty * emitted - params.presence_penalty * (emitted > 0)
    row[index] = values


def _nucleus_floor(probs: Tensor, top_p: float) -> Tensor:
    """The smallest probability inside the smallest set of ids with at least top_p of the mass: [rows, 1]."""
    num_sorted = min(TOP_P_PREFIX, probs.shape[-1])
    largest = probs.topk(num_sorted, dim=-1).values
    mass = largest.double().cumsum(dim=-1)
    if num_sorted < probs.shape[-1] and bool((mass[:, -1] < top_p).any()):
        largest = probs.sort(dim=-1, descending=True).values
        mass = largest.double().cumsum(dim=-1)
    num_kept = (mass < top_p).sum(dim=-1, keepdim=True) + 1
    return largest.gather(-1, num_kept.clamp(max=largest.shape[-1]) - 1)
