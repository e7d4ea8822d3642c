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

TOP_P_PREFIXES = (256, 4096)
"""So many of the largest probabilities are looked at before a row is sorted whole: a long sort costs milliseconds."""


class TokenCounts:
    """How often each id stands in a session's prompt and answer; what penalties look at. Grows by `append`."""

    def __init__(self, prompt_ids: ArrayLike, emitted_ids: ArrayLike = ()) -> None:
        self._ids = np.unique(np.asarray(prompt_ids, np.int64))
        self._num_emitted = np.zeros(len(self._ids), np.float32)
        self._columns = {token: column for column, token in enumerate(self._ids.tolist())}
        self.append(emitted_ids)

    def append(self, token_ids: ArrayLike) -> None:
        """Count emitted tokens."""
        tokens = np.asarray(token_ids, np.int64).tolist()
        self._add_columns(tokens)
        for token in tokens:
            self._num_emitted[self._columns[token]] += 1

    def with_ancestors(
        self, ancestors: Sequence[Sequence[int]]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float32]]:
        """Per row, the session's tokens followed by the row's draft ancestors.

        Returns ids [num_ids]; is_present [rows, num_ids]: in prompt, answer or ancestors; num_emitted [rows, num_ids]:
        how often in answer or ancestors.
        """
        drafted = sorted({int(token) for row in ancestors for token in row} - self._columns.keys())
        columns = {token: len(self._ids) + offset for offset, token in enumerate(drafted)}
        ids = np.append(self._ids, np.array(drafted, np.int64))
        num_emitted = np.zeros((len(ancestors), len(ids)), np.float32)
        num_emitted[:, : len(self._ids)] = self._num_emitted
        is_present = np.broadcast_to(np.arange(len(ids)) < len(self._ids), num_emitted.shape).copy()
        for row, tokens in enumerate(ancestors):
            for token in tokens:
                column = self._columns.get(int(token), columns.get(int(token), -1))
                num_emitted[row, column] += 1
                is_present[row, column] = True
        return ids, is_present, num_emitted

    def _add_columns(self, tokens: list[int]) -> None:
        new = sorted(set(tokens) - self._columns.keys())
        self._columns.update(zip(new, range(len(self._ids), len(self._ids) + len(new)), strict=True))
        self._ids = np.append(self._ids, np.array(new, np.int64))
        self._num_emitted = np.append(self._num_emitted, np.zeros(len(new), np.float32))


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


def softened(
    logits: Tensor, params: SamplingParams, counts: TokenCounts | None, ancestors: Sequence[Sequence[int]] | None
) -> Tensor:
    """Like `process_logits`, but at temperature 0 the softmax at temperature 1: in float64, so that what the argmax
    distinguishes is not rounded to a tie."""
    if params.method == "greedy":
        return shape_logits(logits, params, counts, ancestors).double().softmax(dim=-1)
    return process_logits(logits, params, counts, ancestors)


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
        _penalise(logits, params, *counts.with_ancestors(ancestors if ancestors is not None else [()] * len(logits)))
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
    broken = ~largest.isfinite()
    if not probs.is_cpu or bool(broken.any()):  # elsewhere looking costs more than doing it in vain
        probs = torch.where(broken, one_hot_argmax(logits), probs)
    return probs


def one_hot_argmax(logits: Tensor) -> Tensor:
    """All mass on the largest logit of each row, the lowest id on ties; NaN counts as masked."""
    return torch.zeros_like(logits).scatter_(-1, largest_ids(logits).unsqueeze(-1), 1.0)


def largest_ids(logits: Tensor) -> Tensor:
    """[rows]: the id of each row's largest logit, the lowest one on ties; NaN counts as masked."""
    logits = logits.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    # torch takes nine times as long as NumPy on the CPU: 15 us for 6 rows of 4,096
    return torch.from_numpy(logits.numpy().argmax(axis=-1)) if _is_numpy(logits) else logits.argmax(dim=-1)


def _is_numpy(logits: Tensor) -> bool:
    return logits.is_cpu and logits.dtype != torch.bfloat16


def _penalise(
    logits: Tensor,
    params: SamplingParams,
    ids: NDArray[np.int64],
    is_present: NDArray[np.bool_],
    num_emitted: NDArray[np.float32],
) -> None:
    """Change logits [rows, vocab] in place: repetition over prompt and answer, the others over the answer only."""
    columns = torch.from_numpy(ids).to(logits.device)
    present = torch.from_numpy(is_present).to(logits.device)
    emitted = torch.from_numpy(num_emitted).to(logits.device, logits.dtype)
    values = logits[:, columns]
    weaker = torch.where(values > 0, values / params.repetition_penalty, values * params.repetition_penalty)
    values = torch.where(present, weaker, values)
    logits[:, columns] = values - params.frequency_penalty * emitted - params.presence_penalty * (emitted > 0)


def _nucleus_floor(probs: Tensor, top_p: float, prefixes: tuple[int, ...] = TOP_P_PREFIXES) -> Tensor:
    """The smallest probability inside the smallest set of ids with at least top_p of the mass: [rows, 1]."""
    vocab = probs.shape[-1]
    # elsewhere than on the CPU a look at how far it reaches would wait for the device
    is_whole = not prefixes or prefixes[0] >= vocab or not probs.is_cpu
    largest = probs.sort(dim=-1, descending=True).values if is_whole else probs.topk(prefixes[0], dim=-1).values
    mass = largest.double().cumsum(dim=-1)
    num_kept = (mass < top_p).sum(dim=-1, keepdim=True) + 1
    floor = largest.gather(-1, num_kept.clamp(max=largest.shape[-1]) - 1)
    too_short = num_kept.squeeze(-1) > largest.shape[-1]
    if not is_whole and bool(too_short.any()):
        floor[too_short] = _nucleus_floor(probs[too_short], top_p, prefixes[1:])
    return floor
