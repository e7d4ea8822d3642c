"""The decode loop: one answer, round by round (DESIGN 3). It does not know whether gRPC lies between it and the models.

select   learner weights -> drafter, or several
draft    they propose, within a deadline; several drafts are merged into one tree
verify   one target pass keeps the longest accepted path and adds one token        (the learner updates meanwhile)
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
from hedgespec.learning.answer_learner import Learning
from hedgespec.learning.scoring_plan import ScoreFrom
from hedgespec.learning.step_times import StepTimes
from hedgespec.protocols import Fleet, Target
from hedgespec.router.drafting import propose, shares_of
from hedgespec.router.events import Events
from hedgespec.router.panel import DrafterPanel
from hedgespec.router.selection import Choices, DraftLimits, Selection
from hedgespec.router.stopping import find_ending
from hedgespec.types import (
    EMPTY_DRAFT,
    DraftShare,
    DraftTree,
    Observation,
    Opened,
    RoundReport,
    SessionSpec,
    Verdict,
)

T = TypeVar("T")

DRAFTERS_OPEN_S = 0.05
"""Head start of the drafters' `open` before the target's prefill, so that its features find their sessions."""


class DecodeLoop:
    """Runs one answer.

    spec:          prompt, sampling parameters and noise seed; emitted_ids empty
    end_token_ids: an emitted token among these ends the answer
    learner:       None when nothing is learned (pinned drafter, no speculation)
    step_times:    told how long the rounds took, where somebody wants to know
    """

    def __init__(
        self,
        spec: SessionSpec,
        fleet: Fleet,
        panel: DrafterPanel,
        selection: Selection,
        learner: Learning | None,
        config: SpeculationConfig,
        end_token_ids: frozenset[int],
        events: Events,
        step_times: StepTimes | None = None,
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
        self._step_times = step_times
        self._max_drafters = config.merge_drafters
        self._emitted: list[int] = []
        self._round_index = 0
        self._last_round_s = 0.0
        self._score_from: ScoreFrom | None = None  # still to be asked for

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

    @property
    def num_emitted(self) -> int:
        """Tokens of all rounds so far, whether the caller keeps them or not."""
        return len(self._emitted)

    def score_rest(self) -> None:
        """Ask for the scores that the schedule has put off, when the answer has ended without the loop's doing."""
        if self._learner is None:
            return
        self._ask()
        self._score_from = self._learner.verified(0, self._round_index, is_last=True)
        self._ask()

    async def _rounds_on(self, target: Target) -> AsyncGenerator[RoundReport, None]:
        spec = replace(self.spec, emitted_ids=np.asarray(self._emitted, dtype=np.int32))
        try:
            started = time.perf_counter()
            opened = await self._within(target.open(spec), self._config.open_deadline_s, "open the session")
            await self._opened(opened, time.perf_counter() - started)
            while True:
                report = await self._round(target)
                yield report
                if report.finish_reason is not None:
                    return
        finally:
            with suppress(HedgeSpecError):
                await asyncio.shield(target.close(spec.session_id))

    async def _opened(self, opened: Opened, prefill_s: float) -> None:
        self.num_cached_tokens = opened.num_cached_tokens
        self.spec = replace(self.spec, num_prompt_scores=0)  # another target need not tell again
        if opened.prompt_top is not None and self._learner is not None:
            await self._panel.score_prompt(opened.prompt_top, self._config.warm_wait_fraction * prefill_s)

    async def _round(self, target: Target) -> RoundReport:
        config, sampling = self._config, self.spec.sampling
        started = time.perf_counter()
        if self._learner is not None:
            if 0 < self._round_index <= config.warm_rounds:
                await self._panel.wait_for_scores(config.warm_wait_fraction * self._last_round_s)
            self._learner.absorb(self._round_index)
        choices = self._choose()
        selected = time.perf_counter()

        tree = EMPTY_DRAFT
        if choices:
            tree = await propose(self._panel, choices, self._round_index, config.draft_deadline_s)
        drafted = time.perf_counter()

        verdict, tree, learn_s = await self._verify(target, tree, choices)
        verified = time.perf_counter()

        ending = find_ending(verdict.token_ids.tolist(), len(self._emitted), sampling, self._end_token_ids)
        tokens = verdict.token_ids[: ending.num_tokens]
        self._observe(verdict, tokens, is_last=ending.finish_reason is not None)
        self._emitted.extend(tokens.tolist())
        self.last_round_tokens = len(tokens)
        merged = shares_of(tree, verdict, self._panel)
        report = RoundReport(
            round_index=self._round_index,
            drafter_id=self._proposer(choices, tree, merged),
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
            depth=tree.depth,
            merged=merged,
        )
        self._note(choices, report, verdict)
        self._round_index += 1
        self._last_round_s = verified - started
        return report

    def _choose(self) -> Choices:
        config = self._config
        num_draft_tokens = min(self.spec.max_draft_tokens, self.spec.sampling.max_tokens - len(self._emitted) - 1)
        if num_draft_tokens <= 0:
            return ()
        limits = DraftLimits(num_draft_tokens, config.num_nodes, config.branching, self._max_drafters)
        return self._selection.choose(self._round_index, self._panel.available(), limits)

    async def _verify(self, target: Target, tree: DraftTree, choices: Choices) -> tuple[Verdict, DraftTree, float]:
        """-> (verdict, the tree that was verified, seconds of learning that the pass hid)."""
        session_id, deadline_s = self.spec.session_id, self._config.verify_deadline_s
        verify = asyncio.ensure_future(target.verify(session_id, self._round_index, tree))
        learn_s = 0.0
        try:
            if self._learner is not None:
                await asyncio.sleep(0)  # let the request leave before this thread is busy
                self._ask()
                started = time.perf_counter()
                self._learner.absorb(self._round_index)
                learn_s = time.perf_counter() - started
            verdict = await self._within(verify, deadline_s, "verify a draft")
            if verdict.num_accepted and int(verdict.accepted_nodes.max()) >= tree.num_nodes:
                raise ReplicaLost(f"The target accepted a node that is not in the draft of {tree.num_nodes} nodes.")
            return verdict, tree, learn_s
        except InvalidDraft:
            self._refused(tree, choices)
            again = target.verify(session_id, self._round_index, EMPTY_DRAFT)
            return await self._within(again, deadline_s, "decode a token"), EMPTY_DRAFT, learn_s
        finally:
            verify.cancel()

    def _refused(self, tree: DraftTree, choices: Choices) -> None:
        """Drop the drafter of a malformed draft. Of a merged one nobody knows whose fault it was: from now on drafters
        propose one at a time, so that the next such draft tells."""
        culprits = set(tree.drafter_index.tolist()) if tree.drafter_index is not None else {choices[0].drafter_index}
        if len(culprits) == 1:
            self._panel.reject(culprits.pop())
        else:
            self._max_drafters = 1

    def _observe(self, verdict: Verdict, tokens: NDArray[np.int32], is_last: bool) -> None:
        """Tell learner and drafters which tokens became part of the answer.

        Drafters are asked for scores while the target works on the next draft: until then one of them has to draft. In the
        first rounds, where scores are waited for, and at the end they are asked at once.
        """
        observation = Observation(
            start=len(self._emitted),
            token_ids=tokens,
            target_probs=verdict.target_probs[: len(tokens)],
            target_top=verdict.target_top,
        )
        self._panel.observe(observation)
        if self._learner is not None:
            self._score_from = self._learner.verified(len(tokens), self._round_index, is_last)
            if is_last or self._round_index < self._config.warm_rounds:
                self._ask()

    def _ask(self) -> None:
        score_from, self._score_from = self._score_from, None
        if score_from is not None:
            self._panel.ask(score_from)

    def _proposer(self, choices: Choices, tree: DraftTree, merged: tuple[DraftShare, ...]) -> str | None:
        if tree.num_nodes == 0:
            return None
        if merged:
            return max(merged, key=lambda share: share.num_accepted).drafter_id
        return self._panel.drafter_id(choices[0].drafter_index)

    def _note(self, choices: Choices, report: RoundReport, verdict: Verdict) -> None:
        """Tell who learns from rounds instead of scores, and from their times."""
        if report.merged:
            return
        if choices and report.num_drafted and self._learner is not None:
            self._learner.played(choices[0].drafter_index, len(verdict.token_ids))
        if self._step_times is not None:
            self._step_times.add(report.drafter_id, report.depth, report.draft_s, report.verify_s)

    async def _within(self, work: Awaitable[T], deadline_s: float, what: str) -> T:
        try:
            async with asyncio.timeout(deadline_s):
                return await work
        except TimeoutError as error:
            raise ReplicaLost(f"The target did not {what} within {deadline_s:g} s.") from error


def transport_s(waited_s: float, compute_s: float) -> float:
    """What of a wait the replica did not spend computing; nothing where it did not say."""
    return max(0.0, waited_s - compute_s) if compute_s > 0.0 else 0.0
