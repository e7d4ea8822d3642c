"""Target and drafters of this process behind the decode loop's protocols: each call queues work for an engine thread.

The target hands its hidden features to the drafters by reference. No torch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hedgespec.engine.engine import Engine
from hedgespec.engine.work import CloseSession, Observe, OpenSession, Verify
from hedgespec.errors import UnknownDrafter
from hedgespec.models.drafter_model import DrafterModel, Usage
from hedgespec.protocols import FeatureSink
from hedgespec.types import (
    DraftRequest,
    DraftTree,
    FeatureBlock,
    Observation,
    Opened,
    PromptScoreRequest,
    Scores,
    SessionSpec,
    SparseRows,
    Verdict,
)

LOCAL = "local:"
"""The address of a drafter in this process begins so; its id follows."""


class LocalTarget:
    """A `protocols.Target`. A cancelled `open` or `verify` that has not started is dropped and has changed nothing."""

    replica = ""

    def __init__(self, engine: Engine, usage: Callable[[], Usage]) -> None:
        self._engine = engine
        self._usage = usage

    def open(self, spec: SessionSpec) -> Awaitable[Opened]:
        return reply_of(self._engine.submit(OpenSession(spec)))

    def verify(self, session_id: str, round_index: int, tree: DraftTree) -> Awaitable[Verdict]:
        return reply_of(self._engine.submit(Verify(session_id, tree)))

    async def close(self, session_id: str) -> None:
        await reply_in_any_case(self._engine.submit(CloseSession(session_id)))

    def usage(self) -> Usage:
        return self._usage()

    def stop(self) -> None:
        """End the engine thread; everything pending fails with ReplicaLost."""
        self._engine.stop()


class LocalDrafter:
    """A `protocols.Drafter` and `FeatureSink`. Drafters of one group share an engine.

    A cancelled `draft` that has not started is dropped; observations and closes count even when they are cancelled.
    """

    replica = ""

    def __init__(self, engine: Engine, model: DrafterModel) -> None:
        self._engine = engine
        self._model = model

    @property
    def drafter_id(self) -> str:
        return self._model.drafter_id

    @property
    def feature_sink(self) -> str:
        return LOCAL + self.drafter_id if self._model.uses_features else ""

    @property
    def digest(self) -> str:
        """Name the weights; part of the key of learned preferences."""
        return self._model.digest

    def open(self, spec: SessionSpec) -> Awaitable[Opened]:
        return reply_of(self._engine.submit(OpenSession(spec, self.drafter_id)))

    async def draft(self, request: DraftRequest) -> DraftTree:
        observed = None
        if request.observation is not None:
            observed = self._engine.submit(Observe(request.session_id, request.observation, self.drafter_id))
        own = replace(request, observation=None, drafter_id=self.drafter_id)
        tree: DraftTree = await reply_of(self._engine.submit(own))
        if observed is not None and observed.done():
            observed.result()  # raises if the observation was refused
        return tree

    def observe(self, session_id: str, call_index: int, observation: Observation) -> Awaitable[Scores | None]:
        return reply_in_any_case(self._engine.submit(Observe(session_id, observation, self.drafter_id)))

    def score_prompt(self, session_id: str, prompt_top: SparseRows) -> Awaitable[NDArray[np.float32]]:
        return reply_of(self._engine.submit(PromptScoreRequest(session_id, prompt_top, self.drafter_id)))

    async def close(self, session_id: str) -> None:
        await reply_in_any_case(self._engine.submit(CloseSession(session_id, self.drafter_id)))

    def push(self, block: FeatureBlock) -> None:
        """Take features from any thread; a draft that waits for them runs at once."""
        self._model.push(block)
        self._engine.wake()

    def usage(self) -> Usage:
        return self._model.usage()

    def stop(self) -> None:
        """End the engine thread; everything pending fails with ReplicaLost. Once per group is enough."""
        self._engine.stop()


class LocalFeatureTransport:
    """The `FeatureTransport` of one process; drafters register before sessions are opened."""

    def __init__(self) -> None:
        self._sinks: dict[str, FeatureSink] = {}

    def register(self, drafter_id: str, sink: FeatureSink) -> None:
        """Let a target push features to this drafter."""
        self._sinks[LOCAL + drafter_id] = sink

    def sink(self, address: str) -> FeatureSink:
        """Return the drafter registered under an address. Raises UnknownDrafter."""
        try:
            return self._sinks[address]
        except KeyError:
            known = sorted(self._sinks)
            raise UnknownDrafter(f"No feature sink {address!r} in this process. Known: {known}.") from None


def reply_of(work: Future[Any]) -> asyncio.Future[Any]:
    """Return the awaitable result; cancelling it cancels work that has not started."""
    reply = reply_in_any_case(work)
    reply.add_done_callback(partial(_give_up, work))
    return reply


def reply_in_any_case(work: Future[Any]) -> asyncio.Future[Any]:
    """Return the awaitable result of work that is done even when it is cancelled; a failure is then not reported.

    `asyncio.wrap_future` needs two futures and four callbacks per answer; there are several answers per round, and while
    the event loop is busy with them no other thread can run.
    """
    loop = asyncio.get_running_loop()
    reply: asyncio.Future[Any] = loop.create_future()
    work.add_done_callback(partial(_arrived, loop, reply))
    return reply


def _arrived(loop: asyncio.AbstractEventLoop, reply: asyncio.Future[Any], work: Future[Any]) -> None:
    """Runs in the thread that resolved the work."""
    with suppress(RuntimeError):  # the loop has been closed
        loop.call_soon_threadsafe(_deliver, reply, work)


def _deliver(reply: asyncio.Future[Any], work: Future[Any]) -> None:
    if reply.done():
        return
    if work.cancelled():
        reply.cancel()
        return
    error = work.exception()
    if error is None:
        reply.set_result(work.result())
    else:
        reply.set_exception(error)


def _give_up(work: Future[Any], reply: asyncio.Future[Any]) -> None:
    if reply.cancelled():
        work.cancel()
