"""The decode loop decodes one answer, round by round (design 3). It does not know whether gRPC lies before the models.

select   learner weights -> drafter, or several
draft    they propose, within a deadline; several drafts are merged into one tree
verify   one target pass keeps the longest accepted path and adds one token; drafters score meanwhile
emit     the round's tokens go to the caller
observe  the tokens are queued for every drafter; scores are asked for on a schedule and used when they come
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hedgespec.config import SpeculationConfig
from hedgespec.errors import InvalidDraft, ReplicaBusy, ReplicaLost, TargetUnavailable, UnknownSession
from hedgespec.learning.protocol import AnswerLearning
from hedgespec.learning.scoring_plan import ScoreFrom
from hedgespec.learning.step_times import AnswerTimes, RoundTime
from hedgespec.protocols import Fleet
from hedgespec.router.drafting import draft_round, shares_of
from hedgespec.router.events import Events
from hedgespec.router.leased_target import LeasedTarget
from hedgespec.router.panel import DrafterPanel
from hedgespec.router.selection import Choices, DraftLimits, Selection
from hedgespec.router.stopping import find_ending
from hedgespec.types import EMPTY_DRAFT, DraftShare, DraftTree, Observation, Opened, RoundReport, SessionSpec, Verdict

DRAFTERS_OPEN_S = 0.05
"""Head start of the drafters' `open` before the target's prefill, so that its features find their sessions (ADR 3)."""


class DecodeLoop:
    """Runs one answer.

    spec:          prompt, sampling parameters and noise seed; emitted_ids empty
    learning:      None when nothing is learned (pinned drafter, no speculation)
    end_token_ids: an emitted token among these ends the answer
    step_times:    receives how long every round took, and on which target
    """

    def __init__(
        self,
        spec: SessionSpec,
        fleet: Fleet,
        panel: DrafterPanel,
        selection: Selection,
        learning: AnswerLearning | None,
        config: SpeculationConfig,
        end_token_ids: frozenset[int],
        events: Events,
        step_times: AnswerTimes,
    ) -> None:
        self.spec = spec
        self.num_migrations = 0
        self.num_cached_tokens = 0
        self.last_round_tokens = 0
        self._fleet = fleet
        self._panel = panel
        self._selection = selection
        self._learning = learning
        self._config = config
        self._end_token_ids = end_token_ids
        self._events = events
        self._step_times = step_times
        self._max_drafters = config.merge_drafters
        self._emitted: list[int] = []
        self._round_index = 0
        self._last_round_s = 0.0
        self._emitting_s = 0.0  # between the last round's verdict and the beginning of this one
        self._verified_at: float | None = None
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
                async with self._fleet.lease_target() as leased:
                    target = LeasedTarget(leased, self.spec.session_id, self._config)
                    with self._step_times.on_target(target.replica):
                        async with aclosing(self._rounds_on(target)) as reports:
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
        """Ask for the scores that the schedule has put off, when the answer was ended from outside the loop."""
        if self._learning is None:
            return
        self._ask()
        self._score_from = self._learning.verified(0, self._round_index, is_last=True)
        self._ask()

    async def _rounds_on(self, target: LeasedTarget) -> AsyncGenerator[RoundReport, None]:
        spec = replace(self.spec, emitted_ids=np.asarray(self._emitted, dtype=np.int32))
        try:
            started = time.perf_counter()
            opened = await target.open(spec)
            await self._opened(opened, time.perf_counter() - started)
            while True:
                report = await self._round(target)
                yield report
                if report.finish_reason is not None:
                    return
        finally:
            await target.close()

    async def _opened(self, opened: Opened, prefill_s: float) -> None:
        self.num_cached_tokens = opened.num_cached_tokens
        self.spec = replace(self.spec, num_prompt_scores=0)  # another target need not send the prompt's scores again
        if opened.prompt_top is not None and self._learning is not None:
            await self._panel.score_prompt(opened.prompt_top, self._config.warm_wait_fraction * prefill_s)

    async def _round(self, target: LeasedTarget) -> RoundReport:
        started = time.perf_counter()
        self._emitting_s = 0.0 if self._verified_at is None else started - self._verified_at
        await self._begin_round()
        choices = self._choose()
        selected = time.perf_counter()

        tree = EMPTY_DRAFT
        if choices:
            tree = await draft_round(self._panel, choices, self._round_index, self._config.draft_deadline_s)
        drafted = time.perf_counter()

        verdict, tree = await self._verify(target, tree, choices)
        verified = time.perf_counter()

        ending = find_ending(verdict.token_ids.tolist(), self.num_emitted, self.spec.sampling, self._end_token_ids)
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
            learn_s=selected - started,
            transport_s=transport_s(drafted - selected, tree.compute_s)
            + transport_s(verified - drafted, verdict.compute_s),
            weights=self._learning.weights if self._learning is not None else np.zeros(0),
            depth=tree.depth,
            merged=merged,
        )
        self._learn_from_round(choices, report, verdict)
        self._round_index += 1
        self._last_round_s, self._verified_at = verified - started, verified
        return report

    async def _begin_round(self) -> None:
        if self._learning is None:
            return
        if 0 < self._round_index <= self._config.warm_rounds:
            await self._panel.wait_for_scores(self._config.warm_wait_fraction * self._last_round_s)
        self._learning.begin_round(self._round_index)

    def _choose(self) -> Choices:
        config = self._config
        num_draft_tokens = min(self.spec.max_draft_tokens, self.spec.sampling.max_tokens - self.num_emitted - 1)
        if num_draft_tokens <= 0:
            return ()
        limits = DraftLimits(num_draft_tokens, config.num_nodes, config.branching, self._max_drafters)
        return self._selection.choose(self._round_index, self._panel.available(), limits)

    async def _verify(self, target: LeasedTarget, tree: DraftTree, choices: Choices) -> tuple[Verdict, DraftTree]:
        """-> (verdict, the tree that was verified)."""
        verifying = target.send(self._round_index, tree)
        try:
            if self._learning is not None:
                await asyncio.sleep(0)  # let the request leave before this thread is busy
                self._ask()
            return await target.verdict(verifying, tree), tree
        except InvalidDraft:
            self._refused(tree, choices)
            again = target.send(self._round_index, EMPTY_DRAFT)
            return await target.verdict(again, EMPTY_DRAFT), EMPTY_DRAFT
        finally:
            verifying.cancel()

    def _refused(self, tree: DraftTree, choices: Choices) -> None:
        """Drop the drafter of a malformed draft. Of a merged one the culprit is not known: from now on drafters propose
        one at a time, so that the next such draft shows it."""
        culprits = set(tree.drafter_index.tolist()) if tree.drafter_index is not None else {choices[0].drafter_index}
        if len(culprits) == 1:
            self._panel.reject(culprits.pop())
        else:
            self._max_drafters = 1

    def _observe(self, verdict: Verdict, tokens: NDArray[np.int32], is_last: bool) -> None:
        """Pass on to learner and drafters which tokens became part of the answer.

        Drafters are asked for scores while the target works on the next draft: until then one of them has to draft. In the
        first rounds, where scores are waited for, and at the end they are asked at once.
        """
        observation = Observation(
            start=self.num_emitted,
            token_ids=tokens,
            target_probs=verdict.target_probs[: len(tokens)],
            target_top=verdict.target_top,
        )
        self._panel.observe(observation)
        if self._learning is not None:
            self._score_from = self._learning.verified(len(tokens), self._round_index, is_last)
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

    def _learn_from_round(self, choices: Choices, report: RoundReport, verdict: Verdict) -> None:
        """Give bandits the round's outcome and step times its durations."""
        if report.merged:
            return
        if choices and report.num_drafted and self._learning is not None:
            self._learning.played(choices[0].drafter_index, len(verdict.token_ids))
        rest_s = report.learn_s + self._emitting_s
        drafter, asked = (choices[0].drafter_index, choices[0].num_draft_tokens) if choices else (None, 0)
        self._step_times.add(RoundTime(drafter, asked, report.depth, report.draft_s, report.verify_s, rest_s))


def transport_s(waited_s: float, compute_s: float) -> float:
    """The part of a wait that the replica did not spend computing; 0 where it did not say."""
    return max(0.0, waited_s - compute_s) if compute_s > 0.0 else 0.0
