"""Passes through a bank of heads: over rows of sessions, and over branches that part from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.models.cpu.scripting import NUM_REHEARSALS
from hedgespec.models.drafting.sampled_chains import SampledShape
from hedgespec.models.eagle3.bank import HeadBank
from hedgespec.models.eagle3.branches import HeadBranches
from hedgespec.models.memory.attention import LayerShape, PackedAttention, Rows
from hedgespec.models.memory.kv_memory import KvMemory
from hedgespec.models.memory.planned_attention import AttentionPlan
from hedgespec.speculative.device_sampling import neutral_shaping


class HeadPasses:
    """Rows of several heads stand in the order of their places in the bank.

    places: of the heads of a pass's sessions, rising; rows: one block per session
    """

    def __init__(self, bank: HeadBank) -> None:
        self._bank, self._stack = bank, bank.stack
        self._layer = [LayerShape(0, bank.config.num_kv_heads, bank.config.head_dim, None)]

    @torch.inference_mode()
    def rehearse(self) -> None:
        """Every pass a few times, on nothing: compiling them takes longer than the first answers should."""
        for _ in range(NUM_REHEARSALS):
            slot = KvMemory(8).open(8)
            slot.require(8)
            features = torch.zeros((1, 3 * self._bank.config.target_hidden_size), device=self._bank.device)
            states = self.catch_up([0], [0], [features], [0], [Rows(slot, 0, 1)])
            self.step([0], [0], [states], [1], [Rows(slot, 1, 1)])
            self.greedy_chains([0], [states], [1], [Rows(slot, 1, 1)], 3)
            for noise in (torch.full((1, 3), 0.5, dtype=torch.float64), torch.ones((1, 3), dtype=torch.int64)):
                shaping = neutral_shaping(1, torch.device("cpu"))
                shape = SampledShape(shaping, noise, not noise.is_floating_point(), 2, 1.0)
                self.sampled_chains([0], [states], [1], [Rows(slot, 1, 1)], shape)
            branches = HeadBranches(slot, [1], states, [0], 0)
            for _ in range(2):
                self.follow([(branches, [0], [0])])
            self.logits_of([branches.states], self.counts([(0, 1)]))

    def step(
        self,
        places: Sequence[int],
        ids: list[int],
        hidden: list[Tensor],
        positions: list[int],
        rows: Sequence[Rows],
    ) -> Tensor:
        """See `HeadStack.step`."""
        rotations, counts = self._rotations(positions), self._counts_of(places, rows)
        return self._stack.step(ids, hidden, positions, rotations, counts, self._plan(rows))

    def catch_up(
        self,
        places: Sequence[int],
        ids: list[int],
        features: list[Tensor],
        positions: list[int],
        rows: Sequence[Rows],
    ) -> Tensor:
        """See `HeadStack.catch_up`."""
        rotations, counts = self._rotations(positions), self._counts_of(places, rows)
        return self._stack.catch_up(ids, features, positions, rotations, counts, self._plan(rows))

    def greedy_chains(
        self,
        places: Sequence[int],
        states: list[Tensor],
        positions: list[int],
        rows: Sequence[Rows],
        num_tokens: int,
    ) -> list[list[int]]:
        """See `HeadStack.greedy_chains`; rows: of the first steps."""
        rotations = self._rotations([position + num_tokens for position in positions])
        counts, plan = self._counts_of(places, rows), self._plan(rows)
        chains: list[list[int]] = self._stack.greedy_chains(
            states, positions, rotations, counts, plan, num_tokens
        ).tolist()
        return chains

    def sampled_chains(
        self,
        places: Sequence[int],
        states: list[Tensor],
        positions: list[int],
        rows: Sequence[Rows],
        shape: SampledShape,
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        """See `HeadStack.sampled_chains`; rows: of the first steps."""
        rotations = self._rotations([position + shape.noise.shape[1] for position in positions])
        counts, plan = self._counts_of(places, rows), self._plan(rows)
        tokens, ids, probs = self._stack.sampled_chains(states, positions, rotations, counts, plan, shape)
        return tokens.cpu().numpy(), ids.int().cpu().numpy(), probs.cpu().numpy()

    def follow(self, steps: Sequence[tuple[HeadBranches, list[int], list[int]]]) -> None:
        """One pass: every step's branches part as its rows say, and each takes one more token."""
        for branches, rows, _ in steps:
            branches.keep(rows)
            branches.positions = [position + 1 for position in branches.positions]
        ids = [token for _, _, tokens in steps for token in tokens]
        positions = [position for branches, _, _ in steps for position in branches.positions]
        sizes = [len(branches) for branches, _, _ in steps]
        counts = self.counts(zip((branches.place for branches, _, _ in steps), sizes, strict=True))
        states, own_rows = self._stack.follow(
            ids,
            [branches.states for branches, _, _ in steps],
            positions,
            self._rotations(positions),
            counts,
            [branches.plan for branches, _, _ in steps],
        )
        for (branches, _, _), own_states, own in zip(steps, states.split(sizes), own_rows, strict=True):
            branches.states, branches.own = own_states, own

    def logits_of(self, states: list[Tensor], counts: list[int]) -> Tensor:
        """states: [num_rows, hidden] in parts, counts of all their rows."""
        if sum(counts):
            return self._stack.logits(states, counts)
        return torch.zeros((0, self._bank.config.draft_vocab_size), dtype=self._bank.dtype, device=self._bank.device)

    def counts(self, parts: Iterable[tuple[int, int]]) -> list[int]:
        """(place of a head, number of rows), the places rising -> rows per head."""
        counts = [0] * self._bank.num_heads
        for place, num_rows in parts:
            counts[place] += num_rows
        return counts

    def no_state(self) -> Tensor:
        return torch.zeros((1, self._bank.config.hidden_size), dtype=self._bank.dtype, device=self._bank.device)

    def _counts_of(self, places: Sequence[int], rows: Sequence[Rows]) -> list[int]:
        return self.counts((place, own.num_rows) for place, own in zip(places, rows, strict=True))

    def _plan(self, rows: Sequence[Rows]) -> AttentionPlan:
        return PackedAttention(rows, self._bank.dtype, self._bank.device).plan(self._layer)

    def _rotations(self, positions: Sequence[int]) -> Tensor:
        self._bank.require_positions(max(positions) + 1)
        return self._bank.rotations.table
