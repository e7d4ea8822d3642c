"""The embedded zoo in this process, for tests: every drafter it ships, drafts of up to eight tokens."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from hedgespec import zoo
from hedgespec.assembly.local_service import LocalService
from hedgespec.config import AppArgs, laptop_args
from hedgespec.types import GenerationChunk, GenerationRequest, SamplingParams

MAX_DRAFT_TOKENS = 8


def zoo_args(**speculation: object) -> AppArgs:
    """A draft deadline that a loaded test machine cannot miss: a missed one is lossless, but tests nothing."""
    settings = {
        "max_draft_tokens": MAX_DRAFT_TOKENS,
        "draft_deadline_s": 60.0,
        "verify_deadline_s": 60.0,
        **speculation,
    }
    objective = "rounds" if "merge_drafters" in speculation else "time"  # merged drafts have no time of one drafter
    learner = {"objective": objective}
    return AppArgs.model_validate({**laptop_args().model_dump(), "speculation": settings, "learner": learner})


def drafter_ids() -> list[str]:
    return [d.id for d in zoo_args().drafters]


def prompt_ids(local: LocalService, domain: str, index: int = 0) -> NDArray[np.int32]:
    return local.tokenizer.encode(zoo.held_out_prompts(domain)[index])


async def chunks_of(
    local: LocalService,
    prompt: NDArray[np.int32],
    sampling: SamplingParams,
    drafter: str | None = None,
    max_draft_tokens: int | None = None,
) -> list[GenerationChunk]:
    request = GenerationRequest(
        uuid4().hex, "default", prompt, sampling, uuid4().hex, drafter=drafter, max_draft_tokens=max_draft_tokens
    )
    return [chunk async for chunk in local.service.generate(request)]


async def tokens_of(
    local: LocalService,
    prompt: NDArray[np.int32],
    sampling: SamplingParams,
    drafter: str | None = None,
    max_draft_tokens: int | None = None,
) -> list[int]:
    chunks: Sequence[GenerationChunk] = await chunks_of(local, prompt, sampling, drafter, max_draft_tokens)
    return [token for chunk in chunks for token in chunk.token_ids]
