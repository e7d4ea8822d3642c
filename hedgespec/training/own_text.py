"""Text that a target writes itself: continuations of prompts, batched, with its KV cache."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from hedgespec.training.features import Teacher

TEMPERATURES = (0.0, 0.7, 1.0)


@torch.no_grad()
def continue_prompts(
    teacher: Teacher, prompts: NDArray[np.int64], length: int, seed: int, progress: Callable[[float], None]
) -> NDArray[np.int64]:
    """Return prompts continued to `length` tokens, [num_prompts, length]; the rows take the temperatures in turn.

    prompts: [num_prompts, prompt_length]
    """
    device = teacher.embedding.device
    generator = torch.Generator(device=device).manual_seed(seed)
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(prompts), 96):
        ids = torch.from_numpy(prompts[start : start + 96]).to(device)
        temperature = torch.tensor(TEMPERATURES, device=device)[torch.arange(len(ids), device=device) % len(TEMPERATURES)]
        output = teacher.model(input_ids=ids, use_cache=True)
        rows = [ids]
        while True:
            logits = output.logits[:, -1].float()
            scaled = logits / temperature.clamp(min=1e-3)[:, None]
            drawn = torch.multinomial(scaled.softmax(-1), 1, generator=generator)
            token = torch.where(temperature[:, None] == 0, logits.argmax(-1, keepdim=True), drawn)
            rows.append(token)
            if ids.shape[1] + len(rows) - 1 == length:
                break
            output = teacher.model(input_ids=token, past_key_values=output.past_key_values, use_cache=True)
        batches.append(torch.cat(rows, dim=1).cpu().numpy())
        progress(min(1.0, (start + 96) / len(prompts)))
    return np.concatenate(batches)
