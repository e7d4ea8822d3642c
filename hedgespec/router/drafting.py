"""Drafting makes a round's proposal: one drafter's draft, or the drafts of several merged into one tree."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np

from hedgespec.errors import HedgeSpecError
from hedgespec.router.panel import DrafterPanel
from hedgespec.router.selection import Choices
from hedgespec.speculative.merging import merge
from hedgespec.types import EMPTY_DRAFT, DraftShare, DraftTree, Verdict


async def draft_round(panel: DrafterPanel, choices: Choices, round_index: int, deadline_s: float) -> DraftTree:
    """What the chosen drafters propose in time; EMPTY_DRAFT when none of them does. Never raises.

    The result of a single drafter has no drafter_index. A drafter that fails or is late falls out of a merged draft.
    """
    if len(choices) == 1:
        return await panel.draft(choices[0], round_index, deadline_s)
    trees = await asyncio.gather(*(panel.draft(choice, round_index, deadline_s) for choice in choices))
    drafts = [(c.drafter_index, tree) for c, tree in zip(choices, trees, strict=True) if tree.num_nodes]
    if not drafts:
        return EMPTY_DRAFT
    if len(drafts) == 1:
        index, tree = drafts[0]
        return replace(tree, drafter_index=np.full(tree.num_nodes, index, np.int16))
    try:
        merged = merge(drafts, sum(choice.num_nodes for choice in choices))
    except HedgeSpecError:  # drafts that do not fit together are as good as none
        return EMPTY_DRAFT
    return replace(merged, compute_s=max(tree.compute_s for _, tree in drafts))


def shares_of(tree: DraftTree, verdict: Verdict, panel: DrafterPanel) -> tuple[DraftShare, ...]:
    """How many nodes of a merged draft each drafter proposed, and how many were accepted; empty for a single drafter's."""
    if tree.drafter_index is None or tree.num_nodes == 0:
        return ()
    accepted = tree.drafter_index[verdict.accepted_nodes]
    indices = list(dict.fromkeys(tree.drafter_index.tolist()))
    return tuple(
        DraftShare(panel.drafter_id(i), int((tree.drafter_index == i).sum()), int((accepted == i).sum()))
        for i in indices
    )
