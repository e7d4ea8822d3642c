"""The frozen target as a teacher: its features and logits for whole sequences, kept as lessons while memory allows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from hedgespec.errors import ModelFolderError
from hedgespec.models.eagle3.config import feature_layers
from hedgespec.training.precision import mixed_precision
from hedgespec.training.text import Windows


class Teacher:
    """A frozen transformers causal LM whose hidden states are read at the inputs of three decoder layers.

    Raises ModelFolderError when the folder has no config.json.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        if not (folder / "config.json").is_file():
            raise ModelFolderError(f"No target in {folder}: config.json is missing.")
        self.model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
        self.model.to(device).eval().requires_grad_(False)
        layers: nn.ModuleList = self.model.model.layers
        self._taps: dict[int, Tensor] = {}
        self._wanted = feature_layers(len(layers))
        for index in self._wanted:
            layers[index].register_forward_pre_hook(self._tap(index), with_kwargs=True)

    @property
    def config(self) -> Any:
        """The transformers configuration of the target."""
        return self.model.config

    @property
    def embedding(self) -> Tensor:
        """The input embedding, [vocab, hidden]."""
        weight: Tensor = self.model.get_input_embeddings().weight
        return weight

    @property
    def output_embedding(self) -> Tensor:
        """The output matrix (lm_head), [vocab, hidden]."""
        weight: Tensor = self.model.get_output_embeddings().weight
        return weight

    @torch.no_grad()
    def __call__(self, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [batch, length, 3 * hidden] and logits [batch, length, vocab] for token_ids [batch, length]."""
        with mixed_precision(token_ids.device.type):
            logits = self.model(input_ids=token_ids, use_cache=False).logits
        return torch.cat([self._taps[i] for i in self._wanted], dim=-1).float(), logits

    def _tap(self, index: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._taps[index] = args[0] if args else kwargs["hidden_states"]

        return hook


@dataclass(frozen=True, slots=True)
class Lesson:
    """One training batch. The target's values are rounded to bfloat16, kept or not, so that memory changes no result."""

    token_ids: Tensor  # [batch, length]
    features: Tensor  # [batch, length, 3 * target_hidden]
    draft_probs: Tensor  # [batch, length, draft_vocab], the target's softmax over the tokens that can be drafted
    best: Tensor  # [batch, length], the target's likeliest token
    counts: Tensor  # [batch, length], whether the prediction of the token behind a position is to be learned


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
        return Lesson(
            token_ids,
            features.float(),
            draft_logits.float().softmax(-1),
            best,
            torch.ones_like(token_ids, dtype=torch.bool),
        )

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
