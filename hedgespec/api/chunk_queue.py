"""`ChunkQueue` runs the generations of one HTTP request, one task per prompt, and puts their chunks into one queue."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from hedgespec.api.errors import timed_out
from hedgespec.errors import HedgeSpecError
from hedgespec.protocols import Generator
from hedgespec.types import GenerationChunk, GenerationRequest

_QUEUE_CHUNKS = 16
"""Chunks that may wait: a client that reads slowly stops its generation instead of filling memory."""


PromptChunk = tuple[int, GenerationChunk]
"""The prompt's index within the request, and a chunk of its answer."""


class ChunkQueue:
    """Entering the context starts the generations; leaving it closes each and waits until its own clean-up has run.

    One task runs a generator from its first step to its clean-up: timeouts inside it belong to that task.
    """

    def __init__(self, generator: Generator, requests: Sequence[GenerationRequest], timeout_s: float) -> None:
        self._generator = generator
        self._requests = requests
        self._timeout_s = timeout_s
        self._queue: asyncio.Queue[PromptChunk | Exception] = asyncio.Queue(_QUEUE_CHUNKS)
        self._tasks: list[asyncio.Task[None]] = []
        self._num_open = len(requests)

    async def __aenter__(self) -> ChunkQueue:
        self._deadline = asyncio.get_running_loop().time() + self._timeout_s
        self._tasks = [asyncio.create_task(self._run(i, request)) for i, request in enumerate(self._requests)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            # Not gather: a second cancellation of ours must not cut the generators' clean-up short.
            await asyncio.wait(self._tasks)

    @property
    def is_finished(self) -> bool:
        return self._num_open == 0

    async def next(self, patience_s: float | None = None) -> PromptChunk | None:
        """Return the next chunk, or None when there was none within patience_s.

        Raises what a generation raised, and RequestError 504 when the request's time is over.
        """
        now = asyncio.get_running_loop().time()
        until = self._deadline if patience_s is None else min(self._deadline, now + patience_s)
        try:
            async with asyncio.timeout_at(until):
                item = await self._queue.get()
        except TimeoutError:
            if until == self._deadline:
                raise timed_out(self._timeout_s) from None
            return None
        if isinstance(item, Exception):
            raise item
        if item[1].finish_reason is not None:
            self._num_open -= 1
        return item

    async def _run(self, index: int, request: GenerationRequest) -> None:
        chunks = self._generator.generate(request)
        try:
            has_ended = False
            async for chunk in chunks:
                has_ended = chunk.finish_reason is not None
                await self._queue.put((index, chunk))
            if not has_ended:
                raise HedgeSpecError("A generation ended without a finish reason.")
        except Exception as error:  # handed to the reader of the queue
            await self._queue.put(error)
        finally:
            with suppress(Exception):
                await chunks.aclose()
