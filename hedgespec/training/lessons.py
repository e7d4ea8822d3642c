"""The teacher's features and logits for every window of a run, computed once and kept while memory allows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.training.teacher import Teacher
from hedgespec.training.text import Windows


@dataclass(frozen=True, slots=True)
class Lesson:
    """One training batch. The target's values are rounded to bfloat16, kept or not, so that memory changes no result."""

    token_ids: Tensor  # [batch, length]
    features: Tensor  # [batch, length, 3 * target_hidden]
    draft_logits: Tensor  # [batch, length, draft_vocab], the target's logits of the tokens that can be drafted
    best: Tensor  # [batch, length], the target's likeliest token


class Lessons:
    """Batches of lessons for windows [num_windows, length]; later epochs use the same windows again.

    draft_ids: [draft_vocab]. memory_bytes: how much of the teacher's output is kept.
    """

    def __init__(self, teacher: Teacher, windows: Windows, draft_ids: Tensor, memory_bytes: int) -> None:
        self._teacher, self._draft_ids = teacher, draft_ids
        self._windows = torch.from_numpy(windows)
        self._kept: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        self._memory_bytes = memory_bytes

    def batch(self, indices: NDArray[np.int64]) -> Lesson:
        """Return the lesson for some windows. indices: [batch], into the windows."""
        token_ids = self._windows[indices].to(self._draft_ids.device)
        answers = [self._kept.get(int(i)) for i in indices]
        missing = [row for row, answer in enumerate(answers) if answer is None]
        if missing:
            for row, answer in zip(missing, self._ask(token_ids[missing]), strict=True):
                answers[row] = answer
                self._remember(int(indices[row]), answer)
        features, draft_logits, best = (torch.stack(part) for part in zip(*filter(None, answers), strict=True))
        return Lesson(token_ids, features.float(), draft_logits.float(), best)

    def _ask(self, token_ids: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        features, logits = self._teacher(token_ids)
        draft_logits = logits[..., self._draft_ids].to(torch.bfloat16)
        return list(zip(features.to(torch.bfloat16), draft_logits, logits.argmax(-1), strict=True))

    def _remember(self, index: int, answer: tuple[Tensor, Tensor, Tensor]) -> None:
        size = sum(part.numel() * part.element_size() for part in answer)
        if size <= self._memory_bytes:
            self._memory_bytes -= size
            # Copies: a row of a batch would keep the whole batch alive.
            features, draft_logits, best = (part.clone() for part in answer)
            self._kept[index] = features, draft_logits, best
