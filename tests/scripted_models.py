"""Scripted models for tests of the decode loop: the target counts upwards, drafters fail on command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from hedgespec.errors import HedgeSpecError, TargetUnavailable, UnknownSession
from hedgespec.protocols import Drafter, Target
from hedgespec.types import DraftTree, Observation, Opened, Scores, SessionSpec, Verdict

VOCAB = 1000


def follow(token: int) -> int:
    """The only text this target ever writes: 1, 2, 3, ..."""
    return (token + 1) % VOCAB


@dataclass
class ScriptedTarget:
    """fail: round index -> the exception that verify raises there, once."""

    fail: dict[int, HedgeSpecError] = field(default_factory=dict)
    open_sessions: dict[str, int] = field(default_factory=dict)
    specs: list[SessionSpec] = field(default_factory=list)
    trees: list[DraftTree] = field(default_factory=list)

    async def open(self, spec: SessionSpec) -> Opened:
        ids = [*spec.prompt_ids.tolist(), *spec.emitted_ids.tolist()]
        self.open_sessions[spec.session_id] = ids[-1]
        self.specs.append(spec)
        return Opened()

    async def verify(self, session_id: str, round_index: int, tree: DraftTree) -> Verdict:
        await asyncio.sleep(0)
        if session_id not in self.open_sessions:
            raise UnknownSession(session_id)
        if round_index in self.fail:
            raise self.fail.pop(round_index)
        self.trees.append(tree)
        last, tokens = self.open_sessions[session_id], []
        for token in tree.token_ids.tolist():
            if token != follow(last):
                break
            tokens.append(token)
            last = token
        tokens.append(follow(last))
        self.open_sessions[session_id] = tokens[-1]
        return Verdict(
            np.arange(len(tokens) - 1, dtype=np.int32), np.asarray(tokens, np.int32), np.ones(len(tokens), np.float32)
        )

    async def close(self, session_id: str) -> None:
        self.open_sessions.pop(session_id, None)


@dataclass
class ScriptedDrafter:
    """num_right: how many of its proposed tokens the target will accept.

    running: while cleared, nothing is answered. scoring: while cleared, scores wait. fail_draft: raised by every draft.
    """

    drafter_id: str
    num_right: int = 0
    fail_draft: HedgeSpecError | None = None
    fail_open: HedgeSpecError | None = None
    digest: str = ""
    feature_sink: str = ""
    running: asyncio.Event = field(default_factory=asyncio.Event)
    scoring: asyncio.Event = field(default_factory=asyncio.Event)
    sessions: dict[str, list[int]] = field(default_factory=dict)
    num_drafts: int = 0

    def __post_init__(self) -> None:
        self.running.set()
        self.scoring.set()

    async def open(self, spec: SessionSpec) -> Opened:
        if self.fail_open is not None:
            raise self.fail_open
        self.sessions[spec.session_id] = [*spec.prompt_ids.tolist(), *spec.emitted_ids.tolist()]
        return Opened()

    async def draft(self, session_id: str, round_index: int, num_draft_tokens: int) -> DraftTree:
        await self.running.wait()
        if self.fail_draft is not None:
            raise self.fail_draft
        self.num_drafts += 1
        last, tokens = self.sessions[session_id][-1], []
        for depth in range(num_draft_tokens):
            last = follow(last) if depth < self.num_right else (last + 7) % VOCAB
            tokens.append(last)
        return DraftTree.chain(np.asarray(tokens, np.int32), drafter_id=self.drafter_id)

    async def observe(self, session_id: str, round_index: int, observation: Observation) -> Scores | None:
        await self.running.wait()
        self.sessions[session_id].extend(observation.token_ids.tolist())
        if not observation.wants_scores:
            return None
        await self.scoring.wait()
        hits = np.zeros((len(observation.token_ids), 5), np.float32)
        hits[:, : self.num_right] = 1.0
        return Scores(observation.start, hits)

    async def close(self, session_id: str) -> None:
        self.sessions.pop(session_id, None)


@dataclass
class ScriptedFleet:
    """targets: leased one after the other, the last one for ever."""

    targets: list[Target]
    pool: dict[str, Drafter] = field(default_factory=dict)
    num_leased: int = 0
    num_returned: int = 0

    @asynccontextmanager
    async def lease_target(self) -> AsyncIterator[Target]:
        if not self.targets:
            raise TargetUnavailable("no target")
        target = self.targets[min(self.num_leased, len(self.targets) - 1)]
        self.num_leased += 1
        try:
            yield target
        finally:
            self.num_returned += 1

    def drafters(self) -> Mapping[str, Drafter]:
        return self.pool
