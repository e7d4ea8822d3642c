"""Train a head on a target's conversations, whose features and distributions were kept when they were held."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.models.eagle3.head import Eagle3Head
from hedgespec.training import Progress
from hedgespec.training.conversations import Conversations
from hedgespec.training.teacher import Lesson
from hedgespec.training.train_drafter import DrafterSettings, fit_head


def train_on_conversations(
    head: Eagle3Head, conversations: Conversations, settings: DrafterSettings, checkpoint: Path, progress: Progress
) -> Eagle3Head:
    """Train a head that may have been trained before; windows repeat in epochs of their own random orders.

    Resumes from the file `checkpoint` when it exists.
    """
    rng = np.random.default_rng(settings.seed + 2)
    num_windows, needed = len(conversations.token_ids), settings.steps * settings.sequences_per_step
    epochs = [rng.permutation(num_windows) for _ in range(-(-needed // num_windows))]
    batches = np.concatenate(epochs)[:needed].reshape(settings.steps, settings.sequences_per_step)
    lessons = ConversationLessons(conversations, head.draft_to_target, head.config.vocab_size)
    return fit_head(head, lessons.batch, batches, settings, checkpoint, progress)


def answer_vocabulary(conversations: Conversations, size: int, vocab_size: int) -> Tensor:
    """Return the `size` token ids that answers use most, ascending, [size]; ties go to the smaller id."""
    written = conversations.likeliest[..., 0][conversations.is_answer]
    counts = torch.bincount(written, minlength=vocab_size)
    order = torch.sort(counts, descending=True, stable=True).indices
    return order[: min(size, vocab_size)].sort().values


class ConversationLessons:
    """Lessons from conversations. draft_ids: [draft_vocab], ascending"""

    def __init__(self, conversations: Conversations, draft_ids: Tensor, vocab_size: int) -> None:
        self._conversations = conversations
        self._num_drafted = len(draft_ids)
        self._column = torch.full((vocab_size,), -1, dtype=torch.int64)  # of every token id in the draft vocabulary
        self._column[draft_ids.cpu()] = torch.arange(self._num_drafted)
        self._device = draft_ids.device

    def batch(self, indices: NDArray[np.int64]) -> Lesson:
        """Return the lesson of some windows. indices: [batch]"""
        rows = torch.from_numpy(indices)
        kept = self._conversations
        likeliest = kept.likeliest[rows].long()
        columns = self._column[likeliest]
        probs = kept.log_probs[rows].float().exp() * (columns >= 0)
        probs = probs / probs.sum(-1, keepdim=True).clamp(min=1e-9)
        dense = torch.zeros(*columns.shape[:2], self._num_drafted)
        dense.scatter_add_(-1, columns.clamp(min=0), probs)
        parts = kept.token_ids[rows].long(), kept.features[rows].float(), dense, likeliest[..., 0], kept.is_answer[rows]
        return Lesson(*(part.to(self._device) for part in parts))
