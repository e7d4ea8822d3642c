"""The protocols between the parts: the decode loop uses them alone and imports neither gRPC, torch nor Redis.

Local and remote implementations are interchangeable (design 3, invariant 6): `engine.local` implements Target and Drafter in
this process, `rpc.client` over a multiplexed gRPC stream, `models.tabular` exactly for tests. A method that returns an
Awaitable may be an `async def`, or a plain method that sends at once and returns a future, which saves a task per call.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hedgespec.types import (
    DraftRequest,
    DraftTree,
    FeatureBlock,
    GenerationChunk,
    GenerationRequest,
    Observation,
    Opened,
    Scores,
    SessionSpec,
    SparseRows,
    Verdict,
)

if TYPE_CHECKING:
    from hedgespec.store.record import PreferenceKey, PreferenceRecord


@runtime_checkable
class Target(Protocol):
    """The large model. One call per session at a time; calls of different sessions interleave freely."""

    @property
    def replica(self) -> str:
        """Names the replica, so that its speed is learned apart from that of others; empty in this process."""

    def open(self, spec: SessionSpec) -> Awaitable[Opened]:
        """Prefill prompt_ids + emitted_ids except the last id and push the features of those positions to
        `spec.feature_sinks`.

        Raises ReplicaBusy (no slot or KV memory), ReplicaLost.
        """

    def verify(self, session_id: str, round_index: int, tree: DraftTree) -> Awaitable[Verdict]:
        """One pass over [last token, draft nodes]: accept the longest path, add one token, keep KV rows of the accepted
        path only, push its features.

        Lossless: whatever the tree, the emitted tokens follow the target's processed distribution.
        Raises InvalidDraft (nothing has changed, the caller may verify EMPTY_DRAFT), UnknownSession, ReplicaLost.
        """

    async def close(self, session_id: str) -> None:
        """Free everything the session holds. Unknown sessions are ignored: closing twice is fine."""


@runtime_checkable
class Drafter(Protocol):
    """A small model that proposes tokens; to the learner it is an expert."""

    @property
    def replica(self) -> str:
        """Names the replica, as `Target.replica` does."""

    @property
    def drafter_id(self) -> str:
        """The id of the configuration."""

    @property
    def digest(self) -> str:
        """Short digest of its weights, part of its name in the preferences; empty when it has none."""

    @property
    def feature_sink(self) -> str:
        """Address the target pushes features to; empty when this drafter uses none."""

    def open(self, spec: SessionSpec) -> Awaitable[Opened]:
        """Open a session; the model processes its text when it first drafts or scores. Raises ReplicaBusy, ReplicaLost."""

    def draft(self, request: DraftRequest) -> Awaitable[DraftTree]:
        """Append the request's observation, catch up with everything observed so far and propose tokens in the form of
        `SessionSpec.draft_form`.

        The caller puts a deadline on the await and goes on without speculation when it passes; the observation counts
        then too. Raises UnknownSession, InvalidObservation (a gap), ReplicaLost.
        """

    def observe(self, session_id: str, call_index: int, observation: Observation) -> Awaitable[Scores | None]:
        """Append verified tokens. Idempotent by output index; may be called before the previous call's scores are back.

        call_index: differs between the calls of one session, so that a reply is matched to its call
        Returns this drafter's scores when they are ready, None when `wants_scores` is False. The decode loop never waits
        for them inside a round. Raises UnknownSession, InvalidObservation (a gap), ReplicaLost.
        """

    def score_prompt(self, session_id: str, prompt_top: SparseRows) -> Awaitable[NDArray[np.float32]]:
        """Return how well this drafter would have drafted the end of the prompt, without changing any draft.

        The score is sum_x min(p(x), q(x)) over the ids that were sent, at depth 1: one number per row of prompt_top
        (`Opened.prompt_top`), 0 where the drafter cannot compute it.

        Raises UnknownSession, ReplicaLost.
        """

    async def close(self, session_id: str) -> None:
        """Free everything the session holds; closing twice is fine."""


class FeatureSink(Protocol):
    """A receiver of hidden features: a drafter's buffer in this process, or a connection to its replica."""

    def push(self, block: FeatureBlock) -> None:
        """Hand over without waiting, from any thread. A block for a slow or dead receiver is dropped: the drafter has a
        hole, which lowers acceptance and leaves the text's distribution as it is."""


class FeatureTransport(Protocol):
    """Resolves the addresses in `SessionSpec.feature_sinks`."""

    def sink(self, address: str) -> FeatureSink:
        """Return the receiver at an address. Raises UnknownDrafter."""


class PreferenceStore(Protocol):
    """Additive per-tenant statistics, one record per router incarnation (design 7)."""

    async def load(self, key: PreferenceKey) -> Mapping[str, PreferenceRecord]:
        """Return all incarnations' records under `key`; corrupt ones are left out and counted. Raises StoreUnavailable."""

    async def save(self, key: PreferenceKey, incarnation: str, record: PreferenceRecord) -> None:
        """Replace this incarnation's record unless the stored one has a higher sequence number.

        Raises RecordFolded when a fold has taken the record, StoreUnavailable.
        """

    async def fold(self, key: PreferenceKey, unchanged: Mapping[str, int], oldest_bucket_s: int) -> None:
        """Add the records of these incarnations to one field and remove theirs, in one step.

        Fields of older names of the same processes are added as well: the process has given them up.
        unchanged: incarnation -> the sequence that its record must still have
        oldest_bucket_s: start of the oldest time bucket that still counts
        Raises CorruptRecord (the field that holds the sum cannot be read), StoreUnavailable.
        """

    async def close(self) -> None: ...


class Fleet(Protocol):
    """The replicas that a router can use now."""

    def lease_target(self) -> AbstractAsyncContextManager[Target]:
        """Lease a slot on one target replica for one request; leaving the context returns it.

        Entering raises TargetUnavailable when no replica has a free slot in time.
        """

    def drafters(self) -> Mapping[str, Drafter]:
        """Return drafter id -> a connected drafter, in the configured order; drafters that are down are absent."""


class Generator(Protocol):
    """The generation service that the HTTP layer calls; `router.service.GenerationService` implements it."""

    def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationChunk, None]:
        """Run one request. Closing the iterator (client gone) stops all work for it and frees every slot.

        Raises RequestError (too long for the context, unknown drafter), TargetUnavailable.
        """
