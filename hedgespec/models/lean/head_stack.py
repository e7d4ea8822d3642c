"""Whole passes of a bank of heads, each one call that TorchScript can compile.

Annotations must be types here, no strings. Arguments are those of `head_passes.HeadPasses`.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from hedgespec.models.drafting.sampled_chains import ChainSampling, sampled_tokens
from hedgespec.models.eagle3.head_attention import Branches, HeadRows, OwnRows, attend_branches, attend_texts
from hedgespec.models.lean.grouped_matrix import grouped_product
from hedgespec.models.lean.head_weights import HeadWeights, after_attention, before_attention, logits_after
from hedgespec.models.lean.scripting import exported
from hedgespec.models.memory.planned_attention import AttentionPlan


class HeadStack(nn.Module):
    """The passes of several heads.

    table: [vocab, hidden] embeddings; draft_to_target: [num_heads, draft_vocab] ids. The methods' `rotations` are those of
    `rotary.RotationTable`, long enough for the positions.
    """

    weights: HeadWeights

    def __init__(self, weights: HeadWeights, table: Tensor, draft_to_target: Tensor) -> None:
        super().__init__()
        self.weights, self.table, self.draft_to_target = weights, table, draft_to_target

    @exported
    def catch_up(self, rows: HeadRows, features: list[Tensor], rotations: Tensor, plan: AttentionPlan) -> Tensor:
        fused = grouped_product(self.weights.fuse, torch.cat(features).to(self.table), rows.counts)
        return self.step(rows, [fused], rotations, plan)

    @exported
    def step(self, rows: HeadRows, hidden: list[Tensor], rotations: Tensor, plan: AttentionPlan) -> Tensor:
        ids, positions = self._on_device(rows.token_ids), self._on_device(rows.positions)
        return self._step(ids, torch.cat(hidden), rotations[positions], rows.counts, plan)

    @exported
    def follow(
        self, rows: HeadRows, hidden: list[Tensor], rotations: Tensor, branches: list[Branches]
    ) -> tuple[Tensor, list[OwnRows]]:
        embeds = embedding(self._on_device(rows.token_ids), self.table)
        rotation = rotations[self._on_device(rows.positions)]
        query, key, value, residual = before_attention(self.weights, embeds, torch.cat(hidden), rotation, rows.counts)
        sizes = [states.shape[0] for states in hidden]
        attended, own_rows = attend_branches(branches, sizes, query, key, value, self.weights.scale)
        return after_attention(self.weights, residual, attended, rows.counts), own_rows

    @exported
    def logits(self, states: list[Tensor], counts: list[int]) -> Tensor:
        return logits_after(self.weights, states[0] if len(states) == 1 else torch.cat(states), counts)

    @exported
    def greedy_chains(
        self, rows: HeadRows, states: list[Tensor], rotations: Tensor, plan: AttentionPlan, num_tokens: int
    ) -> Tensor:
        """Draft the most probable continuations, [num_chains, num_tokens] ids of the target.

        rows: of the chains' first steps, without token_ids; states: one chain's newest state each, [1, hidden]
        """
        heads, state, positions = self._heads(rows.counts), torch.cat(states), self._on_device(rows.positions)
        tokens: list[Tensor] = []
        for step in range(num_tokens):
            if step > 0:
                rotation = rotations[positions + (step - 1)]
                state = self._chain_step(tokens[-1], state, rotation, rows.counts, plan, step - 1)
            columns = logits_after(self.weights, state, rows.counts).argmax(dim=-1)
            tokens.append(self.draft_to_target[heads, columns])
        return torch.stack(tokens, dim=1)

    @exported
    def sampled_chains(
        self, rows: HeadRows, states: list[Tensor], rotations: Tensor, plan: AttentionPlan, sampling: ChainSampling
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draft sampled continuations, [num_chains, num_tokens] ids of the target. Arguments as above.

        Also returns the distributions that the tokens were drawn from: ids and probabilities, [num_chains, num_tokens,
        num_ids].
        """
        heads, state, positions = self._heads(rows.counts), torch.cat(states), self._on_device(rows.positions)
        tokens: list[Tensor] = []
        ids: list[Tensor] = []
        probs: list[Tensor] = []
        for step in range(sampling.noise.shape[1]):
            if step > 0:
                rotation = rotations[positions + (step - 1)]
                state = self._chain_step(tokens[-1], state, rotation, rows.counts, plan, step - 1)
            logits = logits_after(self.weights, state, rows.counts)
            token, own_ids, own_probs = sampled_tokens(logits, self.draft_to_target, heads, sampling, step)
            tokens.append(token)
            ids.append(own_ids)
            probs.append(own_probs)
        return torch.stack(tokens, dim=1), torch.stack(ids, dim=1), torch.stack(probs, dim=1)

    def _chain_step(
        self, tokens: Tensor, state: Tensor, rotation: Tensor, counts: list[int], plan: AttentionPlan, step: int
    ) -> Tensor:
        """Take the step-th step of chains whose first one is planned."""
        starts = [start + step for start in plan.starts]
        moved = AttentionPlan(plan.sizes, starts, plan.keys, plan.values, plan.masks, plan.is_causal)
        return self._step(tokens, state, rotation, counts, moved)

    def _step(
        self, token_ids: Tensor, hidden: Tensor, rotation: Tensor, counts: list[int], plan: AttentionPlan
    ) -> Tensor:
        embeds = embedding(token_ids, self.table)
        query, key, value, residual = before_attention(self.weights, embeds, hidden, rotation, counts)
        attended = attend_texts(plan, query, key, value, self.weights.scale)
        return after_attention(self.weights, residual, attended, counts)

    def _heads(self, counts: list[int]) -> Tensor:
        """Return the head of each row, [num_rows]."""
        heads = torch.arange(len(counts), device=self.table.device)
        return heads.repeat_interleave(self._on_device(counts))

    def _on_device(self, numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self.table.device)
