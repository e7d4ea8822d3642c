"""EAGLE-3's training-time test (Li et al. 2025): unroll the head on its own states, match the target at every depth.

Many rows of a sequence are unrolled at once. Row s stands for a round that starts at position s. At depth i its query sees
what serving would have in memory then: the depth-0 keys of rows 0..s (verified tokens), and the row's own keys of depths
1..i (tokens drafted since).
"""

from __future__ import annotations

import torch
from torch import Tensor

from hedgespec.models.eagle3.head import Eagle3Head
from hedgespec.training.teacher import Lesson


class TrainingTimeAttention:
    """Attention that holds the keys and values of one batch of sequences; call it once per depth, in order.

    starts: [num_starts], the rows that are unrolled beyond depth 0
    A call takes q [batch, rows, num_heads, head_dim], k and v [batch, rows, num_kv_heads, head_dim] and returns
    [batch, rows, num_heads * head_dim]; at depth 0 the rows are all positions, then they are the starts.
    """

    def __init__(self, starts: Tensor) -> None:
        self._starts = starts
        self._verified: tuple[Tensor, Tensor] | None = None  # each [batch, num_kv_heads, 1, positions, head_dim]
        self._drafted: list[tuple[Tensor, Tensor]] = []  # each [batch, num_kv_heads, 1, num_starts, head_dim]

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        batch, rows, num_heads, head_dim = query.shape
        keys, values = key.transpose(1, 2).unsqueeze(2), value.transpose(1, 2).unsqueeze(2)
        if self._verified is None:
            self._verified = keys, values
            last_seen = torch.arange(rows, device=query.device)
        else:
            self._drafted.append((keys, values))
            last_seen = self._starts
        verified_keys, verified_values = self._verified
        num_verified = verified_keys.shape[-2]
        # query heads of one group share a key head: [batch, num_kv_heads, group, rows, head_dim]
        grouped = query.transpose(1, 2).unflatten(1, (key.shape[2], -1)) * head_dim**-0.5
        future = torch.arange(num_verified, device=query.device) > last_seen[:, None]
        scores = (grouped @ verified_keys.transpose(-1, -2)).masked_fill(future, float("-inf"))
        own = [(grouped * drafted_keys).sum(-1, keepdim=True) for drafted_keys, _ in self._drafted]
        weights = torch.cat((scores, *own), dim=-1).softmax(-1).to(values.dtype)
        out = weights[..., :num_verified] @ verified_values
        for depth, (_, drafted_values) in enumerate(self._drafted):
            out = out + weights[..., num_verified + depth, None] * drafted_values
        return out.flatten(1, 2).transpose(1, 2).reshape(batch, rows, num_heads * head_dim)


def rollout(
    head: Eagle3Head, token_ids: Tensor, features: Tensor, num_depths: int, starts: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Unroll the head; return (rows [num_rows], states [batch, num_rows, hidden]) of depths 0..num_depths-1.

    token_ids: [batch, length]
    features:  [batch, length, 3 * target_hidden], the target's, at the same positions
    starts:    [num_starts] below length - num_depths, ascending: the rows unrolled beyond depth 0, which covers all rows
    Row s at depth i predicts token s + i + 2, from the token before it and, at depth 0, the features at s.
    """
    rows = torch.arange(token_ids.shape[1] - num_depths, device=token_ids.device)
    attend = TrainingTimeAttention(starts)
    hidden = head.fuse(features[:, rows])
    states: list[tuple[Tensor, Tensor]] = []
    for depth in range(num_depths):
        if depth == 1:
            hidden, rows = hidden[:, starts], starts
        hidden = head.step(head.embed(token_ids[:, rows + depth + 1]), hidden, rows + depth, attend)
        states.append((rows, hidden))
    return states


def ttt_loss(
    head: Eagle3Head, lesson: Lesson, num_depths: int, depth_decay: float, starts: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the loss and the detached share of greedy hits at each depth, [num_depths].

    The loss is the soft cross-entropy against the target's softmax renormalised over the draft vocabulary, at positions that
    count; those whose likeliest token cannot be drafted are left out of the loss and are misses.
    """
    draftable = torch.isin(lesson.best, head.draft_to_target) & lesson.counts
    total = torch.zeros((), device=lesson.draft_probs.device)
    hits: list[Tensor] = []
    states = rollout(head, lesson.token_ids, lesson.features, num_depths, starts)
    for depth, (rows, hidden) in enumerate(states):
        # row s at depth i has just seen token s + i + 1: the target's prediction after that token is the wanted one
        positions = rows + depth + 1
        mask = draftable[:, positions]
        logits = head.logits(hidden[mask]).float()
        loss = -(lesson.draft_probs[:, positions][mask] * logits.log_softmax(-1)).sum()
        total = total + depth_decay**depth * loss / mask.sum().clamp(min=1)
        best = lesson.best[:, positions][mask]
        num_hits = (head.draft_to_target[logits.argmax(-1)] == best).sum()
        hits.append(num_hits / lesson.counts[:, positions].sum().clamp(min=1))
    return total, torch.stack(hits).detach()
