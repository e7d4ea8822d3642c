"""Target and drafters of this process behind the decode loop's protocols: each call queues work for an engine thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hedgespec.engine.engine import Engine
from hedgespec.engine.local_features import LOCAL
from hedgespec.engine.replies import reply_in_any_case, reply_of
from hedgespec.engine.work import CloseSession, Observe, OpenSession, Verify
from hedgespec.models.drafter_model import DrafterModel, Usage
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


class LocalTarget:
    """A `protocols.Target`. A cancelled `open` or `verify` that has not started is dropped and has changed nothing."""

    def __init__(self, engine: Engine, usage: Callable[[], Usage]) -> None:
        self._engine = engine
        self._usage = usage

    def open(self, spec: SessionSpec) -> Awaitable[Opened]:
        return reply_of(self._engine.submit(OpenSession(spec)))

    def verify(self, session_id: str, round_index: int, tree: DraftTree) -> Awaitable[Verdict]:
        return reply_of(self._engine.submit(Verify(session_id, round_index, tree)))

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
