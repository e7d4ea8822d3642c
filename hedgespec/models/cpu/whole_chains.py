"""Drafts of heads in one call each, instead of one call per token: chains whose next token depends on logits alone.

Penalties and a logit bias look at ids, which takes the usual loop.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.models.drafting.proposing import DraftInProgress
from hedgespec.models.drafting.sampled_chains import SampledShape
from hedgespec.models.eagle3.passes import HeadPasses
from hedgespec.models.eagle3.session import Eagle3Session
from hedgespec.models.memory.attention import Rows
from hedgespec.speculative.device_sampling import shaping_of
from hedgespec.types import MAX_SPARSE_IDS, SPARSE_MASS, Method

Member = tuple[Eagle3Session, Tensor, DraftInProgress]
"""A session, its newest state, and the draft to complete."""


def complete_chains(passes: HeadPasses, pairs: Sequence[tuple[Eagle3Session, DraftInProgress]]) -> None:
    """Complete the drafts that can be made here, those of one method and length together."""
    groups: dict[tuple[Method, int], list[Member]] = {}
    for session, draft in pairs:
        state = session.newest_state()
        if state is not None and not draft.is_complete and draft.is_plain:
            groups.setdefault((draft.method, draft.num_draft_tokens), []).append((session, state, draft))
    for (method, num_tokens), members in groups.items():
        sessions, drafts = [session for session, _, _ in members], [draft for _, _, draft in members]
        start = (
            [session.owner.place for session in sessions],
            [state for _, state, _ in members],
            [session.newest_pair + 1 for session in sessions],
            [Rows(s.slot, s.slot.length + len(s.tail), 1) for s in sessions],
        )
        if method == "greedy":
            for draft, chain in zip(drafts, passes.greedy_chains(*start, num_tokens), strict=True):
                draft.token_ids += chain
        else:
            fill_sampled(drafts, *passes.sampled_chains(*start, sampled_shape(drafts)))


def sampled_shape(drafts: Sequence[DraftInProgress]) -> SampledShape:
    """Of drafts of one method and length, on the CPU."""
    shaping = shaping_of([draft.text.spec.sampling for draft in drafts])
    noise = torch.from_numpy(np.stack([draft.noise() for draft in drafts]))
    return SampledShape(shaping, noise, drafts[0].method == "coupled", MAX_SPARSE_IDS, SPARSE_MASS)


def fill_sampled(
    drafts: Sequence[DraftInProgress], tokens: NDArray[np.integer], ids: NDArray[np.int32], probs: NDArray[np.float32]
) -> None:
    """tokens: [num_drafts, num_tokens]; ids, probs: [num_drafts, num_tokens, num_ids], 0 behind what is kept"""
    for draft, own_tokens, own_ids, own_probs in zip(drafts, tokens.tolist(), ids, probs, strict=True):
        draft.fill(own_tokens, own_ids, own_probs)
