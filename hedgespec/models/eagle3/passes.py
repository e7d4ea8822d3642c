"""Passes through a bank of heads: over rows of sessions, and over branches that part from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from hedgespec.models.eagle3.bank import Counts, HeadBank
from hedgespec.models.eagle3.branches import HeadBranches
from hedgespec.models.eagle3.layers import Attend
from hedgespec.models.memory.attention import PackedAttention, PassAttention, Rows


def attend_with(attention: PassAttention, scale: float) -> Attend:
    """A head's only layer over the rows of a pass."""

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key, value = (states.transpose(0, 1).unsqueeze(0) for states in (query, key, value))
        return attention.attend(0, query, key, value, scale)[0].transpose(0, 1).flatten(1)

    return attend


class HeadPasses:
    """Rows of several heads stand in the order of their places in the bank."""

    def __init__(self, bank: HeadBank) -> None:
        self._bank = bank
        self.scale = bank.config.head_dim**-0.5

    def step(
        self,
        places: Sequence[int],
        ids: Sequence[int],
        hidden: Tensor,
        positions: Sequence[int],
        rows: Sequence[Rows],
    ) -> Tensor:
        """One pass over consecutive rows of sessions. places: of their heads, rising; rows: one block per session.

        ids: after those that `hidden` belongs to, [num_rows]; hidden: [num_rows, hidden]; positions: of the pairs.
        Returns the states after them, [num_rows, hidden].
        """
        packed = PackedAttention(rows, self._bank.dtype, self._bank.device)
        counts = self.counts([(place, own.num_rows) for place, own in zip(places, rows, strict=True)])
        return self._call(ids, hidden, positions, attend_with(packed, self.scale), counts)

    def follow(self, steps: Sequence[tuple[HeadBranches, list[int], list[int]]]) -> None:
        """One pass: every step's branches part as its rows say, and each takes one more token."""
        for branches, rows, _ in steps:
            branches.keep(rows)
            branches.positions = [position + 1 for position in branches.positions]
        sizes = [len(branches) for branches, _, _ in steps]

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            parts = zip(steps, *(states.split(sizes) for states in (query, key, value)), strict=True)
            return torch.cat([branches.attention.attend(q, k, v) for (branches, _, _), q, k, v in parts])

        ids = [token for _, _, tokens in steps for token in tokens]
        positions = [position for branches, _, _ in steps for position in branches.positions]
        counts = self.counts([(branches.place, size) for (branches, _, _), size in zip(steps, sizes, strict=True)])
        states = self._call(ids, torch.cat([branches.states for branches, _, _ in steps]), positions, attend, counts)
        for (branches, _, _), own in zip(steps, states.split(sizes), strict=True):
            branches.states = own

    def _call(
        self, ids: Sequence[int], hidden: Tensor, positions: Sequence[int], attend: Attend, counts: Counts
    ) -> Tensor:
        bank = self._bank
        bank.require_positions(max(positions) + 1)
        embedded = bank.embed(torch.tensor(ids, device=bank.device))
        return bank.step(embedded, hidden, torch.tensor(positions, device=bank.device), attend, counts)

    def logits_of(self, states: Sequence[Tensor], counts: Counts) -> Tensor:
        """states: [num_rows, hidden] each, counts of all their rows."""
        if sum(counts):
            return self._bank.logits(torch.cat(list(states)), counts)
        return torch.zeros((0, self._bank.config.draft_vocab_size), dtype=self._bank.dtype, device=self._bank.device)

    def counts(self, parts: Iterable[tuple[int, int]]) -> list[int]:
        """(place of a head, number of rows), the places rising -> rows per head."""
        counts = [0] * self._bank.num_heads
        for place, num_rows in parts:
            counts[place] += num_rows
        return counts

    def no_state(self) -> Tensor:
        return torch.zeros((1, self._bank.config.hidden_size), dtype=self._bank.dtype, device=self._bank.device)
