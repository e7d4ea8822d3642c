"""Sampled chains that a door draws on the network's device, without waiting for every token.

`sampled_tokens` is a function of plain tuples, so that TorchScript can compile it; annotations must be types here, no
strings.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.models.drafting.chain_draft import ChainDraft
from hedgespec.speculative.device_sampling import (
    Shaping,
    draw,
    draw_coupled,
    neutral_shaping,
    shaping_of,
    truncated_distributions,
)
from hedgespec.types import MAX_SPARSE_IDS, SPARSE_MASS, Method


class ChainSampling(NamedTuple):
    """How several chains are sampled, all by one method.

    shaping: of their rows
    noise:   [num_chains, num_tokens]; for `rejection` points in (0, 1), for `coupled` the keys of `noise.coupled_keys`
    max_ids, mass: see `truncated_distributions`
    """

    shaping: Shaping
    noise: Tensor
    is_coupled: bool
    max_ids: int
    mass: float


def chain_sampling(drafts: Sequence[ChainDraft], device: torch.device) -> ChainSampling:
    """Return how drafts of one method and length are sampled."""
    own = shaping_of([draft.text.spec.sampling for draft in drafts])
    shaping = Shaping(own.values.to(device), own.has_top_k, own.has_top_p)
    noise = torch.from_numpy(np.stack([draft.noise() for draft in drafts])).to(device)
    return ChainSampling(shaping, noise, drafts[0].method == "coupled", MAX_SPARSE_IDS, SPARSE_MASS)


def neutral_sampling(method: Method, num_chains: int, num_tokens: int, device: torch.device) -> ChainSampling:
    """Return buffers for the sampling of any chains, with every kind of shaping on and set to change nothing."""
    size, is_coupled = (num_chains, num_tokens), method == "coupled"
    noise = torch.ones(size, dtype=torch.int64) if is_coupled else torch.full(size, 0.5, dtype=torch.float64)
    shaping = neutral_shaping(num_chains, device)
    return ChainSampling(shaping, noise.to(device), is_coupled, MAX_SPARSE_IDS, SPARSE_MASS)


def copy_into(buffers: ChainSampling, sampling: ChainSampling) -> None:
    """Write the sampling of some chains into the first rows of buffers."""
    num_chains = len(sampling.noise)
    buffers.shaping.values[:num_chains].copy_(sampling.shaping.values)
    buffers.noise[:num_chains].copy_(sampling.noise)


def complete_chains(
    drafts: Sequence[ChainDraft], tokens: NDArray[np.integer], ids: NDArray[np.int32], probs: NDArray[np.float32]
) -> None:
    """Complete drafts by their tokens, [num_drafts, num_tokens], and the distributions that those were drawn from.

    ids, probs: [num_drafts, num_tokens, num_ids], see `sampled_tokens`; without any ids for greedy drafts
    """
    for draft, own_tokens, own_ids, own_probs in zip(drafts, tokens.tolist(), ids, probs, strict=True):
        draft.fill(own_tokens, own_ids, own_probs)


def sampled_tokens(
    logits: Tensor, draft_to_target: Tensor, heads: Tensor, sampling: ChainSampling, step: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw the step-th token of every chain, [num_chains], ids of the target.

    logits: [num_chains, num_columns]; draft_to_target: [num_heads, num_columns]; heads: [num_chains]
    Also returns the distributions that they were drawn from: ids and probabilities, [num_chains, num_ids], 0 behind what is
    kept.
    """
    columns, probs = truncated_distributions(logits, sampling.shaping, sampling.max_ids, sampling.mass)
    ids = draft_to_target[heads.unsqueeze(1), columns]
    noise = sampling.noise.select(1, step)
    drawn = draw_coupled(ids, probs, noise) if sampling.is_coupled else draw(probs, noise)
    return ids.gather(1, drawn.unsqueeze(1)).squeeze(1), ids, probs
