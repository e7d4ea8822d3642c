"""Let a target write training text: it continues prompts, in batches with a KV cache."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import StaticCache

from hedgespec.training.teacher import Teacher

TEMPERATURES = (0.0, 1.0, 0.0, 1.0, 0.7)
"""The rows of a run take these in turn; 0 and 1 come twice, because users ask for them most."""
_BATCH = 128


@torch.no_grad()
def continue_prompts(
    teacher: Teacher, prompts: Sequence[NDArray[np.int64]], length: int, seed: int, progress: Callable[[float], None]
) -> NDArray[np.int64]:
    """Continue prompts to `length` tokens, [num_prompts, length]; the rows take TEMPERATURES in turn.

    prompts: each [prompt_length], of any lengths below `length`. progress: called with the share done.
    """
    model = copy.deepcopy(teacher.model).to(torch.bfloat16)
    device = teacher.embedding.device
    generator = torch.Generator(device=device).manual_seed(seed)
    turns = torch.tensor(TEMPERATURES)[torch.arange(len(prompts)) % len(TEMPERATURES)]
    text = np.zeros((len(prompts), length), dtype=np.int64)
    # prompts of like lengths together: every row of a batch is decoded from its shortest prompt on
    order = np.argsort([len(prompt) for prompt in prompts], kind="stable")
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        lengths = torch.tensor([len(prompts[row]) for row in rows])
        for row in rows:
            text[row, : len(prompts[row])] = prompts[row]
        ids, temperatures = torch.from_numpy(text[rows]).to(device), turns[torch.from_numpy(rows)].to(device)
        text[rows] = _continue(model, ids, lengths.to(device), temperatures, generator).cpu().numpy()
        progress(min(1.0, (start + _BATCH) / len(prompts)))
    return text


def _continue(model: Any, text: Tensor, lengths: Tensor, temperatures: Tensor, generator: torch.Generator) -> Tensor:
    """Fill text [num_rows, length] from each row's prompt length on, in place."""
    # a static cache, because a growing one would be copied whole for every token
    cache = StaticCache(config=model.config, max_cache_len=text.shape[1])
    shortest = int(lengths.min())
    logits = model(input_ids=text[:, :shortest], past_key_values=cache, use_cache=True, logits_to_keep=1).logits
    for position in range(shortest, text.shape[1]):
        drawn = _draw(logits[:, -1].float(), temperatures, generator)
        text[:, position] = torch.where(position < lengths, text[:, position], drawn)
        logits = model(input_ids=text[:, position : position + 1], past_key_values=cache, use_cache=True).logits
    return text


def _draw(logits: Tensor, temperatures: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one token per row, [num_rows]; rows of temperature 0 take the likeliest."""
    scaled = logits / temperatures.clamp(min=1e-3)[:, None]
    drawn = torch.multinomial(scaled.softmax(-1), 1, generator=generator).squeeze(1)
    return torch.where(temperatures == 0, logits.argmax(-1), drawn)
