"""The door for EAGLE-3 heads: a bank whose passes take few operators, and whole chains in one call each.

On the CPU products are packed or int8 and passes run without the interpreter. On other devices the passes are the same,
uncompiled.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding

from hedgespec.models.drafting.chain_draft import ChainDraft
from hedgespec.models.drafting.sampled_chains import ChainSampling, chain_sampling, complete_chains, neutral_sampling
from hedgespec.models.eagle3.head import Eagle3Head
from hedgespec.models.eagle3.head_attention import Branches, HeadRows, OwnRows
from hedgespec.models.eagle3.head_bank import HeadBank
from hedgespec.models.eagle3.head_branches import HeadBranches
from hedgespec.models.eagle3.head_session import HeadBlock, HeadSession
from hedgespec.models.eagle3.layers import Attend
from hedgespec.models.lean.head_stack import HeadStack
from hedgespec.models.lean.head_weights import after_attention, before_attention, head_weights
from hedgespec.models.lean.int8_linear import can_use_int8
from hedgespec.models.lean.scripting import NUM_REHEARSALS, scripted
from hedgespec.models.memory.kv_memory import KvMemory
from hedgespec.models.memory.planned_attention import AttentionPlan
from hedgespec.models.rotary import RotationTable
from hedgespec.types import Method

SAMPLED_METHODS: tuple[Method, ...] = ("rejection", "coupled")


def lean_bank(heads: Sequence[Eagle3Head], *, in_int8: bool = False) -> HeadBank:
    """Make a bank that computes what `HeadBank(heads)` computes, faster.

    in_int8: round weights of float32 on the CPU, where torch can
    """
    passes = LeanPasses(heads, in_int8=in_int8)
    bank = HeadBank(heads, lambda _: passes)
    bank.shortcuts.append(WholeChains(passes))
    return bank


class LeanPasses:
    """`HeadPasses` on `HeadWeights`. stack: compiled on the CPU where torch can"""

    def __init__(self, heads: Sequence[Eagle3Head], *, in_int8: bool = False) -> None:
        first = heads[0]
        device = first.norm.weight.device
        self.weights = head_weights(heads, in_int8=in_int8 and can_use_int8())
        self._table = first.embed_tokens.weight.detach()
        self.rotations = RotationTable(first.midlayer.self_attn.rotary.embeddings, device)
        stack = HeadStack(self.weights, self._table, torch.stack([head.draft_to_target for head in heads]))
        self.stack = scripted(stack) if device.type == "cpu" else stack

    def catch_up(self, rows: HeadRows, features: list[Tensor], plan: AttentionPlan) -> Tensor:
        return self.stack.catch_up(rows, features, self.rotations.table, plan)

    def step(self, rows: HeadRows, hidden: list[Tensor], plan: AttentionPlan) -> Tensor:
        return self.stack.step(rows, hidden, self.rotations.table, plan)

    def follow(self, rows: HeadRows, hidden: list[Tensor], branches: list[Branches]) -> tuple[Tensor, list[OwnRows]]:
        return self.stack.follow(rows, hidden, self.rotations.table, branches)

    def layer(self, token_ids: Tensor, hidden: Tensor, positions: Tensor, attend: Attend, counts: list[int]) -> Tensor:
        embeds, rotation = embedding(token_ids, self._table), self.rotations.at(positions)
        query, key, value, residual = before_attention(self.weights, embeds, hidden, rotation, counts)
        return after_attention(self.weights, residual, attend(query, key, value), counts)

    def logits(self, states: list[Tensor], counts: list[int]) -> Tensor:
        return self.stack.logits(states, counts)

    def require_positions(self, end: int) -> None:
        self.rotations.require(end)


class WholeChains:
    """A `ChainShortcut`: chains whose next token depends on logits alone are drafted in one call, not one per token."""

    def __init__(self, passes: LeanPasses) -> None:
        self._passes = passes

    def complete(self, bank: HeadBank, drafts: Sequence[tuple[HeadSession, ChainDraft]]) -> None:
        """Complete the drafts that can be made here, those of one method and length together."""
        groups: dict[tuple[Method, int], list[tuple[HeadSession, Tensor, ChainDraft]]] = {}
        for session, draft in drafts:
            state = session.newest_state()
            if state is not None and not draft.is_complete and draft.can_complete_on_device:
                groups.setdefault((draft.method, draft.num_draft_tokens), []).append((session, state, draft))
        for (method, num_tokens), members in groups.items():
            blocks = [session.block([], [session.newest_pair + 1]) for session, _, _ in members]
            states, own = [state for _, state, _ in members], [draft for _, _, draft in members]
            sampling = None if method == "greedy" else chain_sampling(own, bank.device)
            complete_chains(own, *self.drawn(*bank.layout(blocks, num_tokens), states, num_tokens, sampling))

    def drawn(
        self,
        rows: HeadRows,
        plan: AttentionPlan,
        states: list[Tensor],
        num_tokens: int,
        sampling: ChainSampling | None,
    ) -> tuple[NDArray[np.integer], NDArray[np.int32], NDArray[np.float32]]:
        """Draft chains from their newest states; sampling: None for greedy ones. Returns what `complete_chains` takes.

        rows, plan: of the chains' first steps, one pair each, without token_ids
        """
        stack, rotations = self._passes.stack, self._passes.rotations.table
        if sampling is None:
            chains = stack.greedy_chains(rows, states, rotations, plan, num_tokens).cpu().numpy()
            empty = np.zeros((*chains.shape, 0))
            return chains, empty.astype(np.int32), empty.astype(np.float32)
        tokens, ids, probs = stack.sampled_chains(rows, states, rotations, plan, sampling)
        return tokens.cpu().numpy(), ids.int().cpu().numpy(), probs.cpu().numpy()


@torch.inference_mode()
def rehearse(bank: HeadBank) -> None:
    """Run every pass of a lean bank a few times on nothing: compiling them takes longer than first answers should."""
    (chains,) = (shortcut for shortcut in bank.shortcuts if isinstance(shortcut, WholeChains))
    for _ in range(NUM_REHEARSALS):
        slot = KvMemory(8).open(8)
        slot.require(8)
        states = bank.catch_up(
            [HeadBlock(slot, 0, 0, [0], [0])],
            [torch.zeros((1, 3 * bank.config.target_hidden_size), device=bank.device)],
        )
        bank.step([HeadBlock(slot, 0, 1, [0], [1])], [states])
        first_steps = bank.layout([HeadBlock(slot, 0, 1, [], [1])], 3)
        chains.drawn(*first_steps, [states], 3, None)
        for method in SAMPLED_METHODS:
            chains.drawn(*first_steps, [states], 3, neutral_sampling(method, 1, 3, bank.device))
        branches = HeadBranches(slot, [1], states, [0], 0)
        for _ in range(2):
            bank.follow([(branches, [0], [0])])
        bank.logits([branches.states], bank.counts([(0, 1)]))
