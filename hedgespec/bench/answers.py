"""Run one prompt through a generator as fast as possible and keep what happened."""

from __future__ import annotations

import time
from contextlib import aclosing
from dataclasses import dataclass, field
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from hedgespec.protocols import Generator
from hedgespec.types import DecodeStats, GenerationRequest, SamplingParams


@dataclass(frozen=True, slots=True)
class MeasuredAnswer:
    """seconds: wall time of the whole answer, prefill included. decode_s: from the first chunk to the last."""

    text: str
    seconds: float
    decode_s: float
    stats: DecodeStats = field(repr=False)


async def measure_answer(
    generator: Generator,
    prompt_ids: NDArray[np.int32],
    sampling: SamplingParams,
    drafter: str | None,
    scope: str | None = None,
) -> MeasuredAnswer:
    """scope: None is a fresh one, so that the learner starts uniform."""
    request = GenerationRequest(
        request_id=uuid4().hex,
        tenant="default",
        prompt_ids=prompt_ids,
        sampling=sampling,
        drafter=drafter,
        scope=scope or uuid4().hex,
    )
    started = first = time.perf_counter()
    text, num_chunks = "", 0
    stats: DecodeStats | None = None
    async with aclosing(generator.generate(request)) as chunks:
        async for chunk in chunks:
            if num_chunks == 0:
                first = time.perf_counter()
            num_chunks += 1
            text += chunk.text
            stats = chunk.stats
    ended = time.perf_counter()
    assert stats is not None
    return MeasuredAnswer(text, ended - started, ended - first, stats)
