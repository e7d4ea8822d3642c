"""The panel holds the drafters of one answer: it opens them, asks one for a draft, sends observations, collects scores.

No failure of a drafter leaves this file (design 3, invariant 5): the round goes on without speculation, learning goes on
with the others, and a drafter that answers again is used again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hedgespec.errors import HedgeSpecError
from hedgespec.learning.protocol import AnswerLearning
from hedgespec.learning.scoring_plan import ScoreFrom
from hedgespec.protocols import Drafter
from hedgespec.router.events import Events
from hedgespec.router.selection import Choice
from hedgespec.router.unsent import Unsent
from hedgespec.speculative.noise import drafter_seed
from hedgespec.types import EMPTY_DRAFT, DraftRequest, DraftTree, Observation, Opened, Scores, SessionSpec, SparseRows

MAX_UNANSWERED = 64
"""Observations that a drafter may leave unanswered before it is given up for the answer."""

FINAL_SCORES_S = 1.0
"""How long the end of an answer waits, in the background, for scores that are still on their way, in seconds."""


class Presence(Enum):
    """Whether a drafter can be asked."""

    OPENING = "opening"
    READY = "ready"
    SILENT = "silent"  # missed a deadline; any answer makes it READY again
    LOST = "lost"


class DrafterPanel:
    """The drafters of one answer. drafters: in the order of the learner's, None where a drafter is down."""

    def __init__(self, drafters: Sequence[Drafter | None], learning: AnswerLearning | None, events: Events) -> None:
        self.drafters = list(drafters)
        self.presence = [Presence.LOST if d is None else Presence.OPENING for d in drafters]
        self._learning = learning
        self._events = events
        self._opening: list[asyncio.Future[Opened] | None] = [None] * len(self.drafters)
        self._unanswered: list[set[asyncio.Future[Scores | None]]] = [set() for _ in self.drafters]
        self._unsent = Unsent(len(self.drafters))
        self._call_index = 0  # one more for every message to the drafters: replies are matched by it
        self._scoring_prompt: set[asyncio.Future[NDArray[np.float32]]] = set()
        self._session_id = ""
        for index, drafter in enumerate(self.drafters):
            if drafter is None and learning is not None:
                learning.mark_absent(index)

    @property
    def feature_sinks(self) -> tuple[str, ...]:
        present = (
            d for d, p in zip(self.drafters, self.presence, strict=True) if d is not None and p is not Presence.LOST
        )
        return tuple(dict.fromkeys(d.feature_sink for d in present if d.feature_sink))

    async def open(self, spec: SessionSpec, wait_s: float) -> None:
        """Open the session on every drafter; one that needs longer than wait_s joins when it is ready."""
        self._session_id = spec.session_id
        for index, drafter in enumerate(self.drafters):
            if drafter is not None:
                task = asyncio.ensure_future(drafter.open(_for_drafter(spec, index)))
                task.add_done_callback(partial(self._opened, index))
                self._opening[index] = task
        pending = [task for task in self._opening if task is not None]
        if pending:
            await asyncio.wait(pending, timeout=wait_s)

    def available(self) -> list[bool]:
        return [presence is Presence.READY for presence in self.presence]

    def drafter_id(self, index: int) -> str:
        drafter = self.drafters[index]
        return drafter.drafter_id if drafter is not None else ""

    async def score_prompt(self, prompt_top: SparseRows, wait_s: float) -> None:
        """Ask every drafter that is ready to score the prompt; scores that come after wait_s are used late.

        A drafter that cannot score it, or fails, is only left out of this evidence.
        """
        for index, drafter in enumerate(self.drafters):
            if drafter is not None and self.presence[index] is Presence.READY:
                task = asyncio.ensure_future(drafter.score_prompt(self._session_id, prompt_top))
                self._scoring_prompt.add(task)
                task.add_done_callback(partial(self._prompt_scored, index, prompt_top.num_rows))
        if self._scoring_prompt and wait_s > 0.0:
            await asyncio.wait(list(self._scoring_prompt), timeout=wait_s)

    async def draft(self, choice: Choice, round_index: int, deadline_s: float) -> DraftTree:
        """That drafter's proposal, or EMPTY_DRAFT when it fails or misses the deadline."""
        index, drafter = choice.drafter_index, self.drafters[choice.drafter_index]
        assert drafter is not None
        unsent = None if self._unsent.is_empty(index) else self._unsent.take(index)
        request = DraftRequest(self._session_id, round_index, choice.num_draft_tokens, choice.num_nodes, unsent)
        try:
            async with asyncio.timeout(deadline_s):
                # a task of its own starts after the tasks of earlier observations: the drafter gets those first
                return await asyncio.ensure_future(drafter.draft(request))
        except TimeoutError:
            self.presence[index] = Presence.SILENT
            self._events.draft_failed(drafter.drafter_id, "deadline")
        except Exception as error:  # a drafter of an installed package may raise anything
            self._lose(index, type(error).__name__)
        return EMPTY_DRAFT

    def reject(self, index: int) -> None:
        """The target refused this drafter's proposal as malformed: do not ask it again in this answer."""
        self._lose(index, "InvalidDraft")

    def observe(self, observation: Observation) -> None:
        """Tokens were verified; they are sent now only to drafters that cannot wait for the next request to them."""
        self._unsent.add(observation)
        self._call_index += 1
        for index, presence in enumerate(self.presence):
            if presence is not Presence.READY or self._unsent.is_full(index):
                self._send(index)

    def ask(self, score_from: ScoreFrom) -> None:
        """Ask for scores of everything observed from these output indices on; they are learned from when they come."""
        self._call_index += 1
        for index, first in enumerate(score_from):
            if first is not None:
                self._send(index, first)

    def _send(self, index: int, score_from: int | None = None) -> None:
        """Send everything that the drafter has not been sent, and ask for scores from score_from on."""
        drafter, unanswered = self.drafters[index], self._unanswered[index]
        if drafter is None or self.presence[index] is Presence.LOST:
            return
        if score_from is None and self._unsent.is_empty(index):
            return
        if len(unanswered) >= MAX_UNANSWERED:
            self._lose(index, "silent")
            return
        observation = self._unsent.take(index, score_from)
        task = asyncio.ensure_future(drafter.observe(self._session_id, self._call_index, observation))
        unanswered.add(task)
        task.add_done_callback(partial(self._scored, index))

    async def wait_for_scores(self, timeout_s: float) -> None:
        """Let outstanding scores of responsive drafters arrive, for at most timeout_s."""
        awaited = [t for i, tasks in enumerate(self._unanswered) if self.presence[i] is Presence.READY for t in tasks]
        if awaited and timeout_s > 0.0:
            await asyncio.wait(awaited, timeout=timeout_s)

    async def close(self) -> None:
        """Free the session on every drafter, after waiting for the last scores for at most FINAL_SCORES_S."""
        await self.wait_for_scores(FINAL_SCORES_S)
        for index, tasks in enumerate(self._unanswered):
            drafter = self.drafters[index]
            for task in list(tasks):
                task.cancel()
                if drafter is not None:
                    self._events.score_missing(drafter.drafter_id)
        for pending in (*self._opening, *self._scoring_prompt):
            if pending is not None:
                pending.cancel()
        await asyncio.gather(
            *(d.close(self._session_id) for d in self.drafters if d is not None), return_exceptions=True
        )

    def _opened(self, index: int, task: asyncio.Future[Opened]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            if self.presence[index] is Presence.OPENING:
                self.presence[index] = Presence.READY
        else:
            self._lose(index, type(error).__name__)

    def _prompt_scored(self, index: int, num_rows: int, task: asyncio.Future[NDArray[np.float32]]) -> None:
        self._scoring_prompt.discard(task)
        if task.cancelled() or self._learning is None:
            return
        try:
            self._learning.add_prompt_scores(index, task.result(), num_rows)
        except Exception:  # whatever it was: one drafter less in the evidence; if it is lost its next call fails
            self._events.score_missing(self.drafter_id(index))

    def _scored(self, index: int, task: asyncio.Future[Scores | None]) -> None:
        self._unanswered[index].discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._lose(index, type(error).__name__)
            return
        if self.presence[index] is Presence.SILENT:
            self.presence[index] = Presence.READY
        scores = task.result()
        if scores is None or self._learning is None:
            return
        try:
            self._learning.add_scores(index, scores, more_coming=any(self._unanswered))
        except HedgeSpecError as refused:
            self._lose(index, type(refused).__name__)

    def _lose(self, index: int, reason: str) -> None:
        if self.presence[index] is Presence.LOST:
            return
        self.presence[index] = Presence.LOST
        drafter = self.drafters[index]
        assert drafter is not None
        self._events.draft_failed(drafter.drafter_id, reason)
        if self._learning is not None:
            self._learning.mark_absent(index)


def _for_drafter(spec: SessionSpec, index: int) -> SessionSpec:
    """Sampled drafts must be independent of each other; under `coupled` all share the target's own noise instead."""
    if spec.sampling.method != "rejection":
        return spec
    return replace(spec, noise_seed=drafter_seed(spec.noise_seed, index))
