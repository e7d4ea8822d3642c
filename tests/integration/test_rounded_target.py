"""Whole answers of a rounded target are those that it writes alone, whatever drafts, whatever runs beside them."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from numpy.typing import NDArray

from hedgespec import zoo
from hedgespec.assembly.local_service import LocalService, local_service
from hedgespec.bench.answers import measure_answer
from hedgespec.config import laptop_args
from hedgespec.models.lean.rowwise_int8 import can_use_rowwise_int8
from hedgespec.types import SamplingParams

pytestmark = [
    pytest.mark.skipif(not can_use_rowwise_int8(), reason="needs a torch with these products"),
    pytest.mark.timeout(300),
]

PROMPTS = [zoo.held_out_prompts(domain, "validation")[0] for domain in zoo.DOMAINS]
GREEDY = SamplingParams(temperature=0.0, max_tokens=32, ignore_eos=True)
SEEDED = SamplingParams(temperature=1.0, max_tokens=16, ignore_eos=True, seed=7)


async def test_greedy_and_seeded_text_is_that_of_the_rounded_target_alone() -> None:
    """Drafted by n-grams, by a head and by the learner, all prompts at a time."""
    args = laptop_args()
    args = args.model_copy(update={"target": args.target.model_copy(update={"quantization": "int8"})})
    async with local_service(args) as local:
        prompts = [local.tokenizer.encode(prompt) for prompt in PROMPTS]
        for sampling in (GREEDY, SEEDED):
            alone = [await answer(local, prompt, sampling, "none") for prompt in prompts]
            for drafter in ("ngram", "generic", None):
                together = await asyncio.gather(*(answer(local, prompt, sampling, drafter) for prompt in prompts))
                assert together == alone


async def answer(local: LocalService, prompt: NDArray[np.int32], sampling: SamplingParams, drafter: str | None) -> str:
    return (await measure_answer(local.service, prompt, sampling, drafter)).text
