"""Decode with transformers on the same weights: `generate` with a growing and a static cache, and assisted generation.

Assisted generation uses prompt lookup. There is no compiled variant: torch.compile on the CPU needs a C++ compiler at run
time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from hedgespec.bench.decode import Baseline
from hedgespec.types import SamplingParams


def transformers_baselines(target_folder: Path, max_draft_tokens: int) -> dict[str, Baseline]:
    """Return the baselines `hf generate`, `hf static` and `hf assisted` (with our draft length), float32 on the CPU."""
    model = AutoModelForCausalLM.from_pretrained(target_folder, dtype=torch.float32, local_files_only=True).eval()

    def run(prompt_ids: NDArray[np.int32], sampling: SamplingParams, options: Mapping[str, Any]) -> tuple[int, float]:
        ids = torch.as_tensor(prompt_ids, dtype=torch.long)[None]
        settings: dict[str, Any] = {"max_new_tokens": sampling.max_tokens, "do_sample": sampling.temperature > 0.0}
        if sampling.temperature > 0.0:
            settings |= {"temperature": sampling.temperature, "top_k": 0, "top_p": 1.0}
        if sampling.ignore_eos:
            settings |= {"eos_token_id": None}
        started = time.perf_counter()
        with torch.inference_mode():
            output = model.generate(ids, attention_mask=torch.ones_like(ids), **settings, **options)
        return int(output.shape[1]) - len(prompt_ids), time.perf_counter() - started

    return {
        "hf generate": lambda prompt_ids, sampling: run(prompt_ids, sampling, {}),
        "hf static": lambda prompt_ids, sampling: run(prompt_ids, sampling, {"cache_implementation": "static"}),
        "hf assisted": lambda prompt_ids, sampling: run(
            prompt_ids, sampling, {"prompt_lookup_num_tokens": max_draft_tokens}
        ),
    }
