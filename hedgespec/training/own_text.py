"""Text that a target writes itself: continuations of prompts, batched, with its KV cache."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import StaticCache

from hedgespec.training.features import Teacher

TEMPERATURES = (0.0, 0.7, 1.0)
_BATCH = 128


@torch.no_grad()
def continue_prompts(
    teacher: Teacher, prompts: NDArray[np.int64], length: int, seed: int, progress: Callable[[float], None]
) -> NDArray[np.int64]:
    """Return prompts continued to `length` tokens, [num_prompts, length]; the rows take the temperatures in turn.

    prompts: [num_prompts, prompt_length]
    """
    model = copy.deepcopy(teacher.model).to(torch.bfloat16)
    generator = torch.Generator(device=teacher.embedding.device).manual_seed(seed)
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(prompts), _BATCH):
        ids = torch.from_numpy(prompts[start : start + _BATCH]).to(teacher.embedding.device)
        batches.append(_continue(model, ids, length, generator).cpu().numpy())
        progress(min(1.0, (start + _BATCH) / len(prompts)))
    return np.concatenate(batches)


def _continue(model: Any, ids: Tensor, length: int, generator: torch.Generator) -> Tensor:
    num_rows, prompt_length = ids.shape
    # In place: a growing cache would be copied whole for every token.
    cache = StaticCache(config=model.config, max_cache_len=length)
    temperatures = torch.tensor(TEMPERATURES, device=ids.device)[torch.arange(num_rows, device=ids.device) % 3]
    text = torch.cat((ids, ids.new_zeros(num_rows, length - prompt_length)), dim=1)
    logits = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
    for place in range(prompt_length, length):
        text[:, place] = _draw(logits[:, -1].float(), temperatures, generator)
        logits = model(input_ids=text[:, place : place + 1], past_key_values=cache, use_cache=True).logits
    return text


def _draw(logits: Tensor, temperatures: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one token per row, [num_rows]; rows of temperature 0 take the likeliest."""
    scaled = logits / temperatures.clamp(min=1e-3)[:, None]
    drawn = torch.multinomial(scaled.softmax(-1), 1, generator=generator).squeeze(1)
    return torch.where(temperatures == 0, logits.argmax(-1), drawn)
