"""Whole passes of a bank of heads, each one call that `scripting` can compile.

Annotations must be types here, no strings. Rows stand in the order of the heads; counts: [num_heads], rows of every head.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from hedgespec.models.cpu.scripting import exported
from hedgespec.models.drafting.sampled_chains import SampledShape, on_device, sampled_tokens
from hedgespec.models.eagle3.branched_attention import Branches, OwnRows, attend_branches
from hedgespec.models.eagle3.grouped_matrix import grouped_product
from hedgespec.models.eagle3.head_weights import HeadWeights, after_attention, before_attention, logits_after
from hedgespec.models.memory.planned_attention import AttentionPlan, attend_planned


class HeadStack(nn.Module):
    """table: [vocab, hidden] embeddings; draft_to_target: [num_heads, draft_vocab] ids. `rotations` are those of
    `rotary.RotationTable`, long enough for the positions."""

    weights: HeadWeights

    def __init__(self, weights: HeadWeights, table: Tensor, draft_to_target: Tensor) -> None:
        super().__init__()
        self.weights, self.table, self.draft_to_target = weights, table, draft_to_target

    @exported
    def catch_up(
        self,
        token_ids: list[int],
        features: list[Tensor],
        positions: list[int],
        rotations: Tensor,
        counts: list[int],
        plan: AttentionPlan,
    ) -> Tensor:
        """Like `step`, with the target's features instead of states: [num_rows, 3 * target_hidden] in parts."""
        fused = grouped_product(self.weights.fuse, torch.cat(features).to(self.table), counts)
        return self.step(token_ids, [fused], positions, rotations, counts, plan)

    @exported
    def step(
        self,
        token_ids: list[int],
        hidden: list[Tensor],
        positions: list[int],
        rotations: Tensor,
        counts: list[int],
        plan: AttentionPlan,
    ) -> Tensor:
        """One pass over consecutive rows of sessions. The states after them, [num_rows, hidden].

        token_ids: after those that `hidden` belongs to, [num_rows]; hidden: [num_rows, hidden] in parts; positions: of the
        pairs
        """
        ids, places = self._on_device(token_ids), self._on_device(positions)
        return self._step(embedding(ids, self.table), torch.cat(hidden), rotations[places], counts, plan)

    @exported
    def follow(
        self,
        token_ids: list[int],
        hidden: list[Tensor],
        positions: list[int],
        rotations: Tensor,
        counts: list[int],
        branches: list[Branches],
    ) -> tuple[Tensor, list[OwnRows]]:
        """One token more for every branch: the states after them, [num_rows, hidden], and the branches' own rows.

        hidden: per element of `branches` the states of its branches
        """
        ids, places = self._on_device(token_ids), self._on_device(positions)
        embeds = embedding(ids, self.table)
        query, key, value, residual = before_attention(
            self.weights, embeds, torch.cat(hidden), rotations[places], counts
        )
        sizes = [states.shape[0] for states in hidden]
        queries, keys, values = (
            query.split_with_sizes(sizes),
            key.split_with_sizes(sizes),
            value.split_with_sizes(sizes),
        )
        outputs: list[Tensor] = []
        rows: list[OwnRows] = []
        for index, own in enumerate(branches):
            output, new = attend_branches(own, queries[index], keys[index], values[index], self.weights.scale)
            outputs.append(output)
            rows.append(new)
        return after_attention(self.weights, residual, torch.cat(outputs), counts), rows

    @exported
    def logits(self, states: list[Tensor], counts: list[int]) -> Tensor:
        """[num_rows, hidden] in parts -> [num_rows, draft_vocab]"""
        return logits_after(self.weights, torch.cat(states), counts)

    @exported
    def greedy_chains(
        self,
        states: list[Tensor],
        positions: list[int],
        rotations: Tensor,
        counts: list[int],
        plan: AttentionPlan,
        num_tokens: int,
    ) -> Tensor:
        """Most probable continuations, [num_chains, num_tokens] ids of the target.

        states: one chain's newest state each, [1, hidden]; positions: of the pairs of their first steps; plan: of a first
        step of one row each
        """
        heads, state, places = self._heads(counts), torch.cat(states), self._on_device(positions)
        tokens: list[Tensor] = []
        for step in range(num_tokens):
            if step > 0:
                state = self._chain_step(tokens[-1], state, rotations[places + (step - 1)], counts, plan, step - 1)
            columns = logits_after(self.weights, state, counts).argmax(dim=-1)
            tokens.append(self.draft_to_target[heads, columns])
        return torch.stack(tokens, dim=1)

    @exported
    def sampled_chains(
        self,
        states: list[Tensor],
        positions: list[int],
        rotations: Tensor,
        counts: list[int],
        plan: AttentionPlan,
        shape: SampledShape,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sampled continuations, [num_chains, num_tokens] ids of the target, and the laws that they were drawn from: ids and
        probabilities, [num_chains, num_tokens, num_ids]. Arguments as above; shape: its tensors may be on the CPU."""
        shape = on_device(shape, self.table)
        heads, state, places = self._heads(counts), torch.cat(states), self._on_device(positions)
        tokens: list[Tensor] = []
        ids: list[Tensor] = []
        laws: list[Tensor] = []
        for step in range(shape.noise.shape[1]):
            if step > 0:
                state = self._chain_step(tokens[-1], state, rotations[places + (step - 1)], counts, plan, step - 1)
            logits = logits_after(self.weights, state, counts)
            token, own_ids, probs = sampled_tokens(logits, self.draft_to_target, heads, shape, step)
            tokens.append(token)
            ids.append(own_ids)
            laws.append(probs)
        return torch.stack(tokens, dim=1), torch.stack(ids, dim=1), torch.stack(laws, dim=1)

    def _chain_step(
        self, tokens: Tensor, state: Tensor, rotation: Tensor, counts: list[int], plan: AttentionPlan, step: int
    ) -> Tensor:
        """The step-th one of a plan of one row per chain."""
        starts = [start + step for start in plan.starts]
        moved = AttentionPlan(plan.sizes, starts, plan.keys, plan.values, plan.masks, plan.is_causal)
        return self._step(embedding(tokens, self.table), state, rotation, counts, moved)

    def _heads(self, counts: list[int]) -> Tensor:
        """[num_rows]: the head of each row."""
        heads = torch.arange(len(counts), device=self.table.device)
        return heads.repeat_interleave(self._on_device(counts))

    def _step(self, embeds: Tensor, hidden: Tensor, rotation: Tensor, counts: list[int], plan: AttentionPlan) -> Tensor:
        query, key, value, residual = before_attention(self.weights, embeds, hidden, rotation, counts)
        query, key, value = _packed(query), _packed(key), _packed(value)
        attended = attend_planned(plan, 0, query, key, value, self.weights.scale)
        return after_attention(self.weights, residual, attended[0].transpose(0, 1).flatten(1), counts)

    def _on_device(self, numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self.table.device)


def _packed(states: Tensor) -> Tensor:
    """[num_rows, heads, head_dim] -> [1, heads, num_rows, head_dim]"""
    return states.transpose(0, 1).unsqueeze(0)
