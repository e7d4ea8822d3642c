"""The interface of one pass through several heads, and its plain implementation, head by head.

A door may offer the same passes faster (`models/lean`). Rows of several heads stand in the order of the heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from hedgespec.models.eagle3.head import Eagle3Head
from hedgespec.models.eagle3.head_attention import Branches, HeadRows, OwnRows, attend_branches, attend_texts
from hedgespec.models.eagle3.layers import Attend
from hedgespec.models.memory.planned_attention import AttentionPlan


class HeadPasses(Protocol):
    """The passes of a bank of heads. hidden: what the pass before returned, [num_rows, hidden] in parts"""

    def catch_up(self, rows: HeadRows, features: list[Tensor], plan: AttentionPlan) -> Tensor:
        """Take a step from the target's features, [num_rows, 3 * target_hidden] in parts, in the place of states."""
        ...

    def step(self, rows: HeadRows, hidden: list[Tensor], plan: AttentionPlan) -> Tensor:
        """Run over consecutive rows of sessions and return the states after them, [num_rows, hidden]."""
        ...

    def follow(self, rows: HeadRows, hidden: list[Tensor], branches: list[Branches]) -> tuple[Tensor, list[OwnRows]]:
        """Take one more token on every branch; return the states after them, [num_rows, hidden], and the own rows.

        hidden: one part per element of `branches`
        """
        ...

    def layer(self, token_ids: Tensor, hidden: Tensor, positions: Tensor, attend: Attend, counts: list[int]) -> Tensor:
        """Take a step with an attention of the caller's, on tensors on the device; returns [num_rows, hidden]."""
        ...

    def logits(self, states: list[Tensor], counts: list[int]) -> Tensor:
        """Turn states, [num_rows, hidden] in parts, into logits [num_rows, draft_vocab]."""
        ...

    def require_positions(self, end: int) -> None:
        """Prepare for positions below `end`; to be called before a pass, which must not wait for the device."""
        ...


class PlainPasses:
    """`HeadPasses` by the modules of the heads."""

    def __init__(self, heads: Sequence[Eagle3Head]) -> None:
        self._heads = list(heads)
        self._device = heads[0].norm.weight.device
        self._scale = heads[0].config.head_dim ** -0.5

    def catch_up(self, rows: HeadRows, features: list[Tensor], plan: AttentionPlan) -> Tensor:
        joined = torch.cat(features).to(self._heads[0].norm.weight).split(rows.counts)
        fused = torch.cat([head.fuse(own) for head, own in zip(self._heads, joined, strict=True)])
        return self.step(rows, [fused], plan)

    def step(self, rows: HeadRows, hidden: list[Tensor], plan: AttentionPlan) -> Tensor:
        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return attend_texts(plan, query, key, value, self._scale)

        return self._run(rows, hidden, attend)

    def follow(self, rows: HeadRows, hidden: list[Tensor], branches: list[Branches]) -> tuple[Tensor, list[OwnRows]]:
        own_rows: list[OwnRows] = []

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            sizes = [len(states) for states in hidden]
            attended, new = attend_branches(branches, sizes, query, key, value, self._scale)
            own_rows.extend(new)
            return attended

        return self._run(rows, hidden, attend), own_rows

    def layer(self, token_ids: Tensor, hidden: Tensor, positions: Tensor, attend: Attend, counts: list[int]) -> Tensor:
        rows = zip(self._heads, *(rows.split(counts) for rows in (token_ids, hidden, positions)), strict=True)
        before = [head.midlayer.before_attention(head.embed(ids), own, at) for head, ids, own, at in rows]
        query, key, value, residual = (torch.cat(parts) for parts in zip(*before, strict=True))
        after = zip(self._heads, residual.split(counts), attend(query, key, value).split(counts), strict=True)
        return torch.cat([head.midlayer.after_attention(own, attended) for head, own, attended in after])

    def logits(self, states: list[Tensor], counts: list[int]) -> Tensor:
        rows = torch.cat(states).split(counts)
        return torch.cat([head.logits(own) for head, own in zip(self._heads, rows, strict=True)])

    def require_positions(self, end: int) -> None:
        """Rotations are computed in every pass."""

    def _run(self, rows: HeadRows, hidden: list[Tensor], attend: Attend) -> Tensor:
        ids, positions = (torch.tensor(numbers, device=self._device) for numbers in (rows.token_ids, rows.positions))
        return self.layer(ids, torch.cat(hidden), positions, attend, rows.counts)
