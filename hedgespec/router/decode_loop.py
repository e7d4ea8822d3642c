"""The decode loop: one answer, round by round (DESIGN 3). It does not know whether gRPC lies between it and the models.

select   learner weights -> drafter
draft    that drafter proposes, within a deadline
verify   one target pass keeps the longest accepted prefix and adds one token      (the learner updates meanwhile)
emit     the round's tokens go to the caller
observe  every drafter is told; its scores come back when they are ready and are used when they come
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hedgespec.config import SpeculationConfig
from hedgespec.errors import (
    HedgeSpecError,
    InvalidDraft,
    ReplicaBusy,
    ReplicaLost,
    TargetUnavailable,
    UnknownSession,
)
from hedgespec.protocols import Fleet, Target
from hedgespec.router.events import Events
from hedgespec.router.learning import AnswerLearner
from hedgespec.router.panel import DrafterPanel
from hedgespec.router.selection import Selection
from hedgespec.router.stopping import find_ending
from hedgespec.types import EMPTY_DRAFT, DraftTree, Observation, RoundReport, SessionSpec, Verdict

T = TypeVar("T")

DRAFTERS_OPEN_S = 0.05
"""Head start of the drafters' `open` before the target's prefill, so that its features find their sessions."""


class DecodeLoop:
    """Runs one answer.

    spec:          prompt, sampling parameters and noise seed; emitted_ids empty
    end_token_ids: an emitted token among these ends the answer
    learner:       None when nothing is learned (pinned drafter, no speculation)
    """

    def __init__(
        self,
        spec: SessionSpec,
        fleet: Fleet,
        panel: DrafterPanel,
        selection: Selection,
        learner: AnswerLearner | None,
        config: SpeculationConfig,
        end_token_ids: frozenset[int],
        events: Events,
    ) -> None:
        self.spec = spec
        self.num_migrations = 0
        self.num_cached_tokens = 0
        self.last_round_tokens = 0
        self._fleet = fleet
        self._panel = panel
        self._selection = selection
        self._learner = learner
        self._config = config
        self._end_token_ids = end_token_ids
        self._events = events
        self._emitted: list[int] = []
        self._round_index = 0
        self._last_round_s = 0.0

    async def rounds(self) -> AsyncGenerator[RoundReport, None]:
        """Yield one report per target pass until the answer ends.

        A lost target is replaced: the next one continues from prompt + emitted tokens. Closing the iterator frees the
        target at once; the panel belongs to the caller. Raises TargetUnavailable when no target can be found.
        """
        await self._panel.open(self.spec, DRAFTERS_OPEN_S)
        self.spec = replace(self.spec, feature_sinks=self._panel.feature_sinks)
        finished = False
        while not finished:
            try:
                async with self._fleet.lease_target() as target, aclosing(self._rounds_on(target)) as reports:
                    async for report in reports:
                        yield report
                        finished = report.finish_reason is not None
            except (ReplicaLost, UnknownSession) as error:
                self.num_migrations += 1
                self._events.migrated()
                if self.num_migrations > self._config.max_migrations:
                    raise TargetUnavailable(
                        f"The target was lost {self.num_migrations} times during one answer; the last cause: {error}"
                    ) from error
            except ReplicaBusy as error:
                raise TargetUnavailable(f"The target has no room for this request: {error}") from error

    async def _rounds_on(self, target: Target) -> AsyncGenerator[RoundReport, None]:
        spec = replace(self.spec, emitted_ids=np.asarray(self._emitted, dtype=np.int32))
        try:
            opened = await self._within(target.open(spec), self._config.open_deadline_s, "open the session")
            self.num_cached_tokens = opened.num_cached_tokens
            while True:
                report = await self._round(target)
                yield report
                if report.finish_reason is not None:
                    return
        finally:
            with suppress(HedgeSpecError):
                await asyncio.shield(target.close(spec.session_id))

    async def _round(self, target: Target) -> RoundReport:
        config, sampling = self._config, self.spec.sampling
        started = time.perf_counter()
        if self._learner is not None:
            if 0 < self._round_index <= config.warm_rounds:
                await self._panel.wait_for_scores(config.warm_wait_fraction * self._last_round_s)
            self._learner.absorb(self._round_index)
        num_draft_tokens = min(self.spec.max_draft_tokens, sampling.max_tokens - len(self._emitted) - 1)
        chosen = self._selection.choose(self._round_index, self._panel.available()) if num_draft_tokens > 0 else None
        selected = time.perf_counter()

        tree = EMPTY_DRAFT
        if chosen is not None:
            tree = await self._panel.draft(chosen, self._round_index, num_draft_tokens, config.draft_deadline_s)
        drafted = time.perf_counter()

        verdict, tree, learn_s = await self._verify(target, tree, chosen)
        verified = time.perf_counter()

        ending = find_ending(verdict.token_ids.tolist(), len(self._emitted), sampling, self._end_token_ids)
        tokens = verdict.token_ids[: ending.num_tokens]
        self._observe(verdict, tokens)
        self._emitted.extend(tokens.tolist())
        self.last_round_tokens = len(tokens)
        report = RoundReport(
            round_index=self._round_index,
            drafter_id=self._drafter_id(chosen) if tree.num_nodes else None,
            num_drafted=tree.num_nodes,
            num_accepted=verdict.num_accepted,
            token_ids=tokens,
            finish_reason=ending.finish_reason,
            draft_s=drafted - selected,
            verify_s=verified - drafted,
            learn_s=learn_s + selected - started,
            transport_s=transport_s(drafted - selected, tree.compute_s)
            + transport_s(verified - drafted, verdict.compute_s),
            weights=self._learner.weights if self._learner is not None else np.zeros(0),
        )
        self._round_index += 1
        self._last_round_s = verified - started
        return report

    async def _verify(self, target: Target, tree: DraftTree, chosen: int | None) -> tuple[Verdict, DraftTree, float]:
        """-> (verdict, the tree that was verified, seconds of learning that the pass hid)."""
        session_id, deadline_s = self.spec.session_id, self._config.verify_deadline_s
        verify = asyncio.ensure_future(target.verify(session_id, self._round_index, tree))
        learn_s = 0.0
        try:
            if self._learner is not None:
                await asyncio.sleep(0)  # let the request leave before this thread is busy with learning
                started = time.perf_counter()
                self._learner.absorb(self._round_index)
                learn_s = time.perf_counter() - started
            return await self._within(verify, deadline_s, "verify a draft"), tree, learn_s
        except InvalidDraft:
            assert chosen is not None
            self._panel.reject(chosen)
            again = target.verify(session_id, self._round_index, EMPTY_DRAFT)
            return await self._within(again, deadline_s, "decode a token"), EMPTY_DRAFT, learn_s
        finally:
            verify.cancel()

    def _observe(self, verdict: Verdict, tokens: NDArray[np.int32]) -> None:
        """Tell learner and drafters which tokens became part of the answer."""
        if self._learner is not None:
            self._learner.verified(len(tokens), self._round_index)
        observation = Observation(
            start=len(self._emitted),
            token_ids=tokens,
            target_probs=verdict.target_probs[: len(tokens)],
            target_top=verdict.target_top,
            wants_scores=self._selection.wants_scores,
        )
        self._panel.observe(self._round_index, observation)

    def _drafter_id(self, index: int | None) -> str | None:
        drafter = self._panel.drafters[index] if index is not None else None
        return drafter.drafter_id if drafter is not None else None

    async def _within(self, work: Awaitable[T], deadline_s: float, what: str) -> T:
        try:
            async with asyncio.timeout(deadline_s):
                return await work
        except TimeoutError as error:
            raise ReplicaLost(f"The target did not {what} within {deadline_s:g} s.") from error


def transport_s(waited_s: float, compute_s: float) -> float:
    """What of a wait the replica did not spend computing; nothing where it did not say."""
    return max(0.0, waited_s - compute_s) if compute_s > 0.0 else 0.0
