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

    token_ids: tuple[int, ...]
    seconds: float
    decode_s: float
    stats: DecodeStats = field(repr=False)


async def measure_answer(
    generator: Generator,
    prompt_ids: NDArray[np.int32],
    sampling: SamplingParams,
    drafter: str | None,
    tenant: str | None = None,
) -> MeasuredAnswer:
    """tenant: None is a fresh one, so that the learner starts uniform."""
    request = GenerationRequest(
        request_id=uuid4().hex,
        tenant=tenant or uuid4().hex,
        prompt_ids=prompt_ids,
        sampling=sampling,
        drafter=drafter,
    )
    started = first = time.perf_counter()
    token_ids: list[int] = []
    stats: DecodeStats | None = None
    async with aclosing(generator.generate(request)) as chunks:
        async for chunk in chunks:
            if not token_ids:
                first = time.perf_counter()
            token_ids.extend(chunk.token_ids)
            stats = chunk.stats
    ended = time.perf_counter()
    assert stats is not None
    return MeasuredAnswer(tuple(token_ids), ended - started, ended - first, stats)
