"""Scripted models for tests of the decode loop: the target counts upwards, drafters fail on command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hedgespec.errors import HedgeSpecError, TargetUnavailable, UnknownSession
from hedgespec.protocols import Drafter, Target
from hedgespec.types import DraftRequest, DraftTree, Observation, Opened, Scores, SessionSpec, SparseRows, Verdict

VOCAB = 1000


def follow(token: int) -> int:
    """Return the only text that this target ever writes: 1, 2, 3, ..."""
    return (token + 1) % VOCAB


@dataclass
class ScriptedTarget:
    """A target that counts upwards. fail: round index -> the exception that verify raises there, once. prompt_top:
    returned by `open` to sessions that ask for prompt scores."""

    fail: dict[int, HedgeSpecError] = field(default_factory=dict)
    prompt_top: SparseRows | None = None
    replica: str = ""
    open_sessions: dict[str, int] = field(default_factory=dict)
    specs: list[SessionSpec] = field(default_factory=list)
    trees: list[DraftTree] = field(default_factory=list)

    async def open(self, spec: SessionSpec) -> Opened:
        ids = [*spec.prompt_ids.tolist(), *spec.emitted_ids.tolist()]
        self.open_sessions[spec.session_id] = ids[-1]
        self.specs.append(spec)
        return Opened(prompt_top=self.prompt_top if spec.num_prompt_scores else None)

    async def verify(self, session_id: str, round_index: int, tree: DraftTree) -> Verdict:
        await asyncio.sleep(0)
        if session_id not in self.open_sessions:
            raise UnknownSession(session_id)
        if round_index in self.fail:
            raise self.fail.pop(round_index)
        self.trees.append(tree)
        last, path, tokens = self.open_sessions[session_id], [], []
        parents, token_ids = tree.parent.tolist(), tree.token_ids.tolist()
        for node, (parent, token) in enumerate(zip(parents, token_ids, strict=True)):
            if parent == (path[-1] if path else -1) and token == follow(last):
                path.append(node)
                tokens.append(token)
                last = token
        tokens.append(follow(last))
        self.open_sessions[session_id] = tokens[-1]
        return Verdict(np.asarray(path, np.int32), np.asarray(tokens, np.int32), np.ones(len(tokens), np.float32))

    async def close(self, session_id: str) -> None:
        self.open_sessions.pop(session_id, None)


@dataclass
class ScriptedDrafter:
    """num_right: how many of its proposed tokens the target will accept; `right_at` may change it on the way.

    running: while cleared, nothing is answered. scoring: while cleared, scores wait. fail_draft: raised by every draft.
    prompt_overlap: its answer to every row of a prompt; an exception is raised instead
    asked_for, observed, scored: every (num_draft_tokens, num_nodes), every observation, every output index scored
    """

    drafter_id: str
    num_right: int = 0
    fail_draft: HedgeSpecError | None = None
    fail_open: HedgeSpecError | None = None
    digest: str = ""
    feature_sink: str = ""
    replica: str = ""
    prompt_overlap: float | Exception = 0.5
    right_at: Callable[[int], int] | None = None
    running: asyncio.Event = field(default_factory=asyncio.Event)
    scoring: asyncio.Event = field(default_factory=asyncio.Event)
    sessions: dict[str, list[int]] = field(default_factory=dict)
    specs: list[SessionSpec] = field(default_factory=list)
    asked_for: list[tuple[int, int]] = field(default_factory=list)
    observed: list[Observation] = field(default_factory=list)
    calls: set[tuple[str, int]] = field(default_factory=set)
    scored: list[int] = field(default_factory=list)
    num_drafts: int = 0

    def __post_init__(self) -> None:
        self.running.set()
        self.scoring.set()

    async def open(self, spec: SessionSpec) -> Opened:
        if self.fail_open is not None:
            raise self.fail_open
        self.sessions[spec.session_id] = [*spec.prompt_ids.tolist(), *spec.emitted_ids.tolist()]
        self.specs.append(spec)
        return Opened()

    async def draft(self, request: DraftRequest) -> DraftTree:
        """A chain, whatever the form: num_nodes only makes it shorter."""
        await self.running.wait()
        if request.observation is not None:
            self._append(request.session_id, request.observation)
        if self.fail_draft is not None:
            raise self.fail_draft
        self.num_drafts += 1
        self.asked_for.append((request.num_draft_tokens, request.num_nodes))
        ids, tokens = self.sessions[request.session_id], []
        last, num_right = ids[-1], self._num_right(len(ids) - 3)
        for depth in range(min(request.num_draft_tokens, request.num_nodes or request.num_draft_tokens)):
            last = follow(last) if depth < num_right else (last + 7) % VOCAB
            tokens.append(last)
        return DraftTree.chain(np.asarray(tokens, np.int32), drafter_id=self.drafter_id)

    def _append(self, session_id: str, observation: Observation) -> None:
        self.observed.append(observation)
        self.sessions[session_id].extend(observation.token_ids.tolist())

    async def observe(self, session_id: str, call_index: int, observation: Observation) -> Scores | None:
        assert (session_id, call_index) not in self.calls, "replies could not be told apart"
        self.calls.add((session_id, call_index))
        await self.running.wait()
        self._append(session_id, observation)
        if not observation.wants_scores:
            return None
        await self.scoring.wait()
        start = observation.start if observation.score_from is None else observation.score_from
        end = observation.start + len(observation.token_ids)
        self.scored.extend(range(start, end))
        hits = np.zeros((end - start, 5), np.float32)
        for row, output_index in enumerate(range(start, end)):
            hits[row, : self._num_right(output_index)] = 1.0
        return Scores(start, hits)

    async def score_prompt(self, session_id: str, prompt_top: SparseRows) -> NDArray[np.float32]:
        await self.running.wait()
        await self.scoring.wait()
        if isinstance(self.prompt_overlap, Exception):
            raise self.prompt_overlap
        return np.full(prompt_top.num_rows, self.prompt_overlap, np.float32)

    async def close(self, session_id: str) -> None:
        self.sessions.pop(session_id, None)

    def _num_right(self, output_index: int) -> int:
        return self.num_right if self.right_at is None else self.right_at(output_index)


@dataclass
class ScriptedFleet:
    """A fleet of scripted models. targets: leased one after the other, the last one for ever."""

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
