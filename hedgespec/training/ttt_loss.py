"""The loss of EAGLE-3's training-time test (Li et al. 2025, EAGLE-3): unroll the head on its own states and match the
target's distribution at every depth.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hedgespec.models.eagle3.head import Eagle3Head
from hedgespec.training.lessons import Lesson
from hedgespec.training.ttt_attention import TrainingTimeAttention


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

    The loss is the soft cross-entropy against the target's softmax renormalised over the draft vocabulary; positions
    whose likeliest token cannot be drafted are left out of the loss and count as misses.
    """
    wanted = lesson.draft_logits.softmax(-1)
    draftable = torch.isin(lesson.best, head.draft_to_target)
    total = torch.zeros((), device=wanted.device)
    hits: list[Tensor] = []
    states = rollout(head, lesson.token_ids, lesson.features, num_depths, starts)
    for depth, (rows, hidden) in enumerate(states):
        # row s at depth i has just seen token s + i + 1: the target's prediction after that token is the wanted one
        positions = rows + depth + 1
        logits = head.logits(hidden).float()
        loss = -(wanted[:, positions] * logits.log_softmax(-1)).sum(-1)
        mask = draftable[:, positions]
        total = total + depth_decay**depth * (loss * mask).sum() / mask.sum().clamp(min=1)
        hits.append((head.draft_to_target[logits.argmax(-1)] == lesson.best[:, positions]).float().mean())
    return total, torch.stack(hits).detach()
