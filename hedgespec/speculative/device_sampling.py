"""Draft distributions are truncated and drawn from in torch alone, so that a whole chain stays on the device.

The rules are those of `sampling.processing` and `proposal`, which are easier to read; here they are functions of tensors,
to be compiled or captured. Annotations must be types, no strings.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hedgespec.sampling.parameter import plan
from hedgespec.sampling.temperature import MIN_TEMPERATURE
from hedgespec.types import SamplingParams

SHAPED = ("temperature", "top_k", "top_p")
"""The sampling parameters that are known here; with any other one a draft takes the plain path."""


class Shaping(NamedTuple):
    """The sampling parameters of a batch.

    values: [rows, 3] float64, the values of SHAPED; temperatures are at least MIN_TEMPERATURE
    has_top_k, has_top_p: whether any row's is on; the two take half of the operators
    """

    values: Tensor
    has_top_k: bool
    has_top_p: bool


def can_shape(params: SamplingParams) -> bool:
    """Whether the functions below can shape and draw what this request wants."""
    return all(parameter.name in SHAPED for parameter, _ in plan(params).active)


def shaping_of(params: Sequence[SamplingParams]) -> Shaping:
    """The rows' parameters, on the CPU."""
    rows = [[max(own.temperature, MIN_TEMPERATURE), own.top_k, own.top_p] for own in params]
    values = torch.tensor(rows, dtype=torch.float64)
    return Shaping(values, any(own.top_k > 0 for own in params), any(own.top_p < 1.0 for own in params))


def neutral_shaping(num_rows: int, device: torch.device) -> Shaping:
    """Neutral values to be replaced, with everything on: within a captured graph that costs next to nothing."""
    return Shaping(shaping_of([SamplingParams()]).values.repeat(num_rows, 1).to(device), has_top_k=True, has_top_p=True)


def truncated_distributions(logits: Tensor, shaping: Shaping, max_ids: int, mass: float) -> tuple[Tensor, Tensor]:
    """Process and truncate: columns and probabilities by falling probability, [rows, max_ids] each, 0 behind what is kept.

    logits: [rows, num_columns]; max_ids, mass: MAX_SPARSE_IDS and SPARSE_MASS. A top_k beyond max_ids changes nothing.
    """
    max_ids = min(max_ids, logits.shape[1])
    finite = logits.float().nan_to_num(nan=-1e30, posinf=1e30, neginf=-1e30)
    temperature = shaping.values[:, :1].float()
    scaled = (finite - finite.amax(dim=-1, keepdim=True)) / temperature
    if shaping.has_top_k:
        rank = shaping.values[:, 1:2].long()
        last = scaled.topk(max_ids, dim=-1)[0].gather(1, (rank - 1).clamp(min=0, max=max_ids - 1))
        is_on = (rank > 0) & (rank <= max_ids)
        scaled = scaled.masked_fill(is_on & (scaled < last), -torch.inf)  # what ties with the last one stays
    probs, columns = scaled.softmax(dim=-1).topk(max_ids, dim=-1)
    whole = torch.ones_like(temperature).double()
    if shaping.has_top_p:
        nucleus = shaping.values[:, 2:]
        num_inside = (probs.double().cumsum(dim=-1) < nucleus).sum(dim=-1, keepdim=True)
        floor = probs.gather(1, num_inside.clamp(max=max_ids - 1))
        probs = probs.masked_fill((nucleus < 1.0) & (probs < floor), 0.0)
        whole = torch.where(nucleus < 1.0, probs.double().sum(dim=-1, keepdim=True), whole)
    before = probs.double().cumsum(dim=-1) - probs
    probs = probs.masked_fill(before >= mass * whole, 0.0)
    return columns, probs / probs.sum(dim=-1, keepdim=True)


def draw(probs: Tensor, points: Tensor) -> Tensor:
    """Draw one index into each row under `rejection`, [rows]. probs: [rows, num_ids]; points: [rows] in (0, 1)."""
    cumulative = probs.double().cumsum(dim=-1)
    num_before = (cumulative <= points.unsqueeze(1) * cumulative[:, -1:]).sum(dim=-1)
    return torch.minimum(num_before, (probs > 0).sum(dim=-1) - 1)  # rounding must not step past the last one with mass


def draw_coupled(ids: Tensor, probs: Tensor, keys: Tensor) -> Tensor:
    """Find, under `coupled`, the index of the id with the largest log prob + Gumbel noise, [rows].

    ids: the target's, [rows, num_ids] or [1, num_ids]; keys: [rows], see `noise.coupled_keys`
    """
    return (probs.double().log() + device_gumbels(keys, ids)).argmax(dim=-1)


def device_gumbels(keys: Tensor, ids: Tensor) -> Tensor:
    """Compute `noise.gumbels`, [rows, num_ids] float32. keys: [rows], see `noise.coupled_keys`; ids: [rows, num_ids] or
    [1, num_ids]."""
    bits = _shifted(_absorb(keys.unsqueeze(1), ids), 11)
    uniforms = (bits | 1).double() * 2.0**-53
    return -(-uniforms.log()).log().float()


def _absorb(state: Tensor, word: Tensor) -> Tensor:
    """Compute `noise._absorb` in signed 64-bit integers: the constants are those of there minus 2^64."""
    x = state + (word + 1) * -7046029254386353131
    x = (x ^ _shifted(x, 30)) * -4658895280553007687
    x = (x ^ _shifted(x, 27)) * -7723592293110705685
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, num_bits: int) -> Tensor:
    """Shift right, filling with zeros."""
    return (x >> num_bits) & ((1 << (64 - num_bits)) - 1)
