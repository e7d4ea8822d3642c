"""Heads of one shape in one process, which share each pass, and the layout of sessions' rows in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from hedgespec.models.drafting.chain_draft import ChainDraft
from hedgespec.models.eagle3.head import Eagle3Head
from hedgespec.models.eagle3.head_attention import HeadRows
from hedgespec.models.eagle3.head_branches import HeadBranches
from hedgespec.models.eagle3.head_passes import HeadPasses, PlainPasses
from hedgespec.models.eagle3.head_session import HeadBlock, HeadSession
from hedgespec.models.memory.attention import LayerShape, PackedAttention, Rows
from hedgespec.models.memory.planned_attention import AttentionPlan


class HeadBank:
    """Heads that compute together.

    shortcuts: doors add theirs. Blocks of sessions stand in the order of their heads.
    """

    def __init__(
        self,
        heads: Sequence[Eagle3Head],
        make_passes: Callable[[Sequence[Eagle3Head]], HeadPasses] = PlainPasses,
    ) -> None:
        """Take heads that `can_share` a bank; they are kept only where make_passes keeps them."""
        first = heads[0]
        self.config, self.dtype, self.device = first.config, first.dtype, first.norm.weight.device
        self.draft_to_target = torch.stack([head.draft_to_target for head in heads])
        self.passes = make_passes(heads)
        self.shortcuts: list[ChainShortcut] = []
        self._layer = [LayerShape(0, self.config.num_kv_heads, self.config.head_dim, None)]

    @property
    def num_heads(self) -> int:
        return len(self.draft_to_target)

    def catch_up(self, blocks: Sequence[HeadBlock], features: list[Tensor]) -> Tensor:
        """Run pairs with the target's features and return the states after them, see `HeadPasses.catch_up`."""
        rows, plan = self.layout(blocks)
        return self.passes.catch_up(rows, features, plan)

    def step(self, blocks: Sequence[HeadBlock], hidden: list[Tensor]) -> Tensor:
        """Run pairs with states in the place of features and return the states after them, see `HeadPasses.step`."""
        rows, plan = self.layout(blocks)
        return self.passes.step(rows, hidden, plan)

    def follow(self, steps: Sequence[tuple[HeadBranches, list[int], list[int]]]) -> None:
        """One pass: every step's branches part as its rows say, and each takes one more token."""
        for branches, rows, _ in steps:
            branches.keep(rows)
            branches.positions = [position + 1 for position in branches.positions]
        token_ids = [token for _, _, tokens in steps for token in tokens]
        positions = [position for branches, _, _ in steps for position in branches.positions]
        counts = self.counts((branches.head_index, len(branches)) for branches, _, _ in steps)
        self.passes.require_positions(max(positions) + 1)
        hidden, plans = [branches.states for branches, _, _ in steps], [branches.plan for branches, _, _ in steps]
        states, own_rows = self.passes.follow(HeadRows(token_ids, positions, counts), hidden, plans)
        parts = states.split([len(branches) for branches, _, _ in steps])
        for (branches, _, _), own_states, own in zip(steps, parts, own_rows, strict=True):
            branches.states, branches.own = own_states, own

    def logits(self, states: list[Tensor], counts: list[int]) -> Tensor:
        """Turn states into logits, see `HeadPasses.logits`; there may be no rows."""
        if sum(counts):
            return self.passes.logits(states, counts)
        return torch.zeros((0, self.config.draft_vocab_size), dtype=self.dtype, device=self.device)

    def counts(self, parts: Iterable[tuple[int, int]]) -> list[int]:
        """Return the rows of every head. parts: (index of a head, number of rows), the indices rising"""
        counts = [0] * self.num_heads
        for head_index, num_rows in parts:
            counts[head_index] += num_rows
        return counts

    def layout(self, blocks: Sequence[HeadBlock], num_steps: int = 1) -> tuple[HeadRows, AttentionPlan]:
        """Return the rows of a pass and what they attend to; prepare for num_steps steps from their positions on."""
        positions = [position for block in blocks for position in block.positions]
        self.passes.require_positions(max(positions) + num_steps)
        counts = self.counts((block.head_index, len(block.positions)) for block in blocks)
        rows = [Rows(block.slot, block.first_row, len(block.positions)) for block in blocks]
        plan = PackedAttention(rows, self.dtype, self.device).plan(self._layer)
        return HeadRows([token for block in blocks for token in block.token_ids], positions, counts), plan

    def no_state(self) -> Tensor:
        return torch.zeros((1, self.config.hidden_size), dtype=self.dtype, device=self.device)


class ChainShortcut(Protocol):
    """A faster way to draft some of a bank's chains than token by token."""

    def complete(self, bank: HeadBank, drafts: Sequence[tuple[HeadSession, ChainDraft]]) -> None:
        """Complete the drafts that can be made here and leave the others."""
        ...


def can_share(head: Eagle3Head, other: Eagle3Head) -> bool:
    """Whether two heads fit into one bank: alike in shape, type and device, with the same embedding of tokens."""
    table, other_table = head.embed_tokens.weight, other.embed_tokens.weight
    is_alike = (head.config, head.dtype, table.device) == (other.config, other.dtype, other_table.device)
    return is_alike and (table.data_ptr() == other_table.data_ptr() or torch.equal(table, other_table))
