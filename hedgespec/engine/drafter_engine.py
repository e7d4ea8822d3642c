"""The drafters' runner computes drafts and scores of all drafters of one process. No torch: `ngram` runs without it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from hedgespec.engine.scheduler import DrafterScheduler
from hedgespec.engine.score_run import ScoreRun, answer_all, requests_of
from hedgespec.engine.work import CloseSession, Observe, OpenSession, SessionKey, Ticket, as_own_error
from hedgespec.models.drafter_model import DrafterModel
from hedgespec.types import DraftRequest, Opened, PromptScoreRequest, ScoreRequest

FEATURE_GRACE_S = 0.02
"""A draft waits this long for its newest features before it runs without them."""


class DrafterRunner:
    """A `Runner` over several drafters: drafts first, one pass of scores at a time behind them.

    models: drafter id -> drafter
    """

    def __init__(
        self,
        models: Mapping[str, DrafterModel],
        feature_grace_s: float = FEATURE_GRACE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._models = models
        self._clock = clock
        self._scheduler = DrafterScheduler(feature_grace_s)
        self._scoring: ScoreRun | None = None

    def add(self, ticket: Ticket) -> None:
        self._scheduler.add(ticket)

    def drain(self) -> list[Ticket]:
        scoring, self._scoring = self._scoring, None
        return self._scheduler.drain() + ([] if scoring is None else scoring.tickets)

    def step(self, now_s: float) -> float | None:
        """Apply opens, observations and closes; then run every ready draft, or one pass of the ready scores if none is."""
        if self._scoring is not None and self._scheduler.ends_any(self._scoring.sessions):
            self._scoring.finish()
            self._scoring = None
        for ticket in self._scheduler.take_changes():
            self._change(ticket)
        if self._scoring is not None:
            self._continue_scores(self._scoring, now_s)
            return 0.0  # also after the last pass: work that came in the meantime may be ready
        plan = self._scheduler.plan(now_s, self._is_ready, self._batched_by)
        self._run_drafts(plan.drafts)
        if plan.scores:  # all of one batch
            self._scoring = ScoreRun(self._models[self._batched_by(plan.scores[0])], plan.scores)
            self._score(self._scoring)
        return plan.wait_s if self._scoring is None else 0.0

    def _run_drafts(self, tickets: Sequence[Ticket]) -> None:
        batches: dict[str, list[Ticket]] = {}
        for ticket in tickets:
            batches.setdefault(self._batched_by(ticket), []).append(ticket)
        for drafter_id, own in batches.items():
            answer_all(self._models[drafter_id].draft, *requests_of(DraftRequest, own))

    def _continue_scores(self, scoring: ScoreRun, now_s: float) -> None:
        """Run the drafts that came in the meantime, then one more pass of the scores.

        With n answers under way, scoring gets n - 1 seconds per second of drafting: with one answer every draft goes first;
        with many, late scores would hold up many learners, and drafts that wait for them share a pass.
        """
        started = self._clock()
        if scoring.owed_s <= 0.0:
            self._run_drafts(self._scheduler.take_drafts(now_s, self._is_ready))
            scoring.owed_s = (scoring.num_answers - 1) * (self._clock() - started)
            started = self._clock()
        self._score(scoring)
        scoring.owed_s -= self._clock() - started

    def _score(self, scoring: ScoreRun) -> None:
        if scoring.advance():
            self._scoring = None

    def _batched_by(self, ticket: Ticket) -> str:
        return self._models[SessionKey.of(ticket.work).drafter_id].batched_by

    def _change(self, ticket: Ticket) -> None:
        """Apply one change. Observations and closes count even after their caller has gone: later work builds on them."""
        work = ticket.work
        has_caller = ticket.start()
        try:
            if isinstance(work, OpenSession):
                if has_caller:
                    self._models[work.drafter_id].open(work.spec)
                    ticket.resolve(Opened())
            elif isinstance(work, CloseSession):
                self._models[work.drafter_id].close(work.session_id)
                ticket.resolve(None)
            elif isinstance(work, Observe):
                self._observe(ticket, work, has_caller)
            elif isinstance(work, PromptScoreRequest) and has_caller:
                self._scheduler.add_score(ticket)
        except Exception as error:  # one session's failure is its own
            ticket.fail(as_own_error(error, "drafter"))

    def _observe(self, ticket: Ticket, work: Observe, has_caller: bool) -> None:
        new = self._models[work.drafter_id].observe(work.session_id, work.observation)
        if not work.observation.wants_scores:
            ticket.resolve(None)
        elif has_caller:
            ticket.work = ScoreRequest(work.session_id, new, work.drafter_id)
            self._scheduler.add_score(ticket)

    def _is_ready(self, ticket: Ticket) -> bool:
        key = SessionKey.of(ticket.work)
        return self._models[key.drafter_id].has_newest_features(key.session_id)
