"""Two schedulers decide which pending work runs in the next step of an engine. They see tickets and counts, never tensors.

Target: prefill chunks of opening sessions and the verify blocks of all others share one packed pass.
Drafter: state changes first, in the order they came; then every draft that is ready; scores only when no draft is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from hedgespec.engine.work import CloseSession, OpenSession, SessionKey, Ticket, Verify, Work
from hedgespec.errors import UnknownSession
from hedgespec.types import DraftRequest

MAX_SCORE_DELAYS = 4
"""Scores run after this many steps in which drafts went first."""


@dataclass(slots=True)
class Prefill:
    """A session that is being opened. num_tokens: KV rows it needs; num_done: rows it has."""

    ticket: Ticket
    num_tokens: int
    num_done: int = 0


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """The work of one step of a target.

    closes: sessions to free first. chunks: (prefill, rows to compute now), 0 rows for a one-token session
    """

    closes: list[Ticket]
    chunks: list[tuple[Prefill, int]]
    verifies: list[Ticket]


class TargetScheduler:
    """Plans prefills, verifies and closes of one target.

    chunk_tokens: prompt tokens per step, all sessions together; it bounds how long a prompt delays others' rounds
    """

    def __init__(self, chunk_tokens: int) -> None:
        self._chunk_tokens = chunk_tokens
        self._closes: list[Ticket] = []
        self._prefills: dict[str, Prefill] = {}
        self._verifies: dict[str, Ticket] = {}

    def add(self, ticket: Ticket) -> None:
        """Queue submitted work; what it makes pointless fails."""
        work = ticket.work
        if isinstance(work, OpenSession):
            self._replace(work.session_id, "opened again")
            self._closes.append(Ticket(CloseSession(work.session_id), ticket.arrived_s))
            self._prefills[work.session_id] = Prefill(ticket, max(work.spec.num_tokens - 1, 0))
        elif isinstance(work, CloseSession):
            self._replace(work.session_id, "closed")
            self._closes.append(ticket)
        elif isinstance(work, Verify):
            previous = self._verifies.pop(work.session_id, None)
            if previous is not None:
                previous.fail(UnknownSession(f"Session {work.session_id!r} sent another verify before this one ran."))
            self._verifies[work.session_id] = ticket
        else:
            ticket.fail(TypeError(f"A target cannot do {type(work).__name__}."))

    def plan(self) -> TargetPlan:
        """Take everything that can run now. Prefills stay until `advance` finishes or `drop` removes them."""
        closes, self._closes = self._closes, []
        verifies = {k: v for k, v in self._verifies.items() if k not in self._prefills}
        for session_id in verifies:
            del self._verifies[session_id]
        return TargetPlan(closes, self._chunks(), [t for t in verifies.values() if t.start()])

    def advance(self, prefill: Prefill, num_rows: int) -> bool:
        """Count computed rows; return whether the session is open now."""
        prefill.num_done += num_rows
        if prefill.num_done < prefill.num_tokens:
            return False
        self.drop(prefill)
        return True

    def drop(self, prefill: Prefill) -> None:
        """Forget a prefill, unless another one of its session has replaced it."""
        session_id = prefill.ticket.work.session_id
        if self._prefills.get(session_id) is prefill:
            del self._prefills[session_id]

    def has_work(self) -> bool:
        """Return whether anything is pending."""
        return bool(self._closes or self._prefills or self._verifies)

    def drain(self) -> list[Ticket]:
        """Return the tickets of everything that is pending, and forget it."""
        tickets = [*self._closes, *(p.ticket for p in self._prefills.values()), *self._verifies.values()]
        self._closes, self._prefills, self._verifies = [], {}, {}
        return tickets

    def _chunks(self) -> list[tuple[Prefill, int]]:
        """Share the chunk budget among the sessions that are being opened, first come, first served."""
        chunks = []
        budget = self._chunk_tokens
        for prefill in list(self._prefills.values()):
            if not prefill.ticket.start():
                self.drop(prefill)
                self._closes.append(Ticket(CloseSession(prefill.ticket.work.session_id), prefill.ticket.arrived_s))
                continue
            num_rows = min(budget, prefill.num_tokens - prefill.num_done)
            if num_rows > 0 or prefill.num_tokens == 0:
                chunks.append((prefill, num_rows))
                budget -= num_rows
        return chunks

    def _replace(self, session_id: str, reason: str) -> None:
        """Fail pending work of a session that ends."""
        error = UnknownSession(f"Session {session_id!r} was {reason}.")
        prefill = self._prefills.pop(session_id, None)
        verify = self._verifies.pop(session_id, None)
        for ticket in (prefill.ticket if prefill else None, verify):
            if ticket is not None and ticket.start():
                ticket.fail(error)


@dataclass(frozen=True, slots=True)
class DrafterPlan:
    """The work of one step of the drafters.

    wait_s: seconds until work that waits for features runs without them; 0 when work is left, None when nothing is pending
    """

    drafts: list[Ticket]
    scores: list[Ticket]
    wait_s: float | None


class DrafterScheduler:
    """Plans drafts and scores of all drafters of a process.

    feature_grace_s: seconds that a draft or a score waits for features that are still on their way
    """

    def __init__(self, feature_grace_s: float) -> None:
        self._feature_grace_s = feature_grace_s
        self._changes: list[Ticket] = []
        self._drafts: list[Ticket] = []
        self._scores: list[Ticket] = []
        self._num_score_delays = 0

    def add(self, ticket: Ticket) -> None:
        """Queue submitted work; what it makes pointless fails."""
        work = ticket.work
        if isinstance(work, Verify):
            ticket.fail(TypeError("A drafter cannot verify."))
        elif isinstance(work, DraftRequest):
            self._drafts = self._without(self._drafts, work, f"Round {work.round_index} came before this draft ran.")
            self._drafts.append(ticket)
        else:
            if isinstance(work, OpenSession | CloseSession):
                reason = f"Session {work.session_id!r} was closed."
                self._drafts = self._without(self._drafts, work, reason)
                self._scores = self._without(self._scores, work, reason)
            self._changes.append(ticket)

    def add_score(self, ticket: Ticket) -> None:
        """Queue a `ScoreRequest` or a `PromptScoreRequest`; it waits until no draft is ready."""
        self._scores.append(ticket)

    def take_changes(self) -> list[Ticket]:
        """Take opens, observations, prompts to score and closes, in the order they came."""
        changes, self._changes = self._changes, []
        return changes

    def plan(
        self, now_s: float, is_ready: Callable[[Ticket], bool], batched_by: Callable[[Ticket], str]
    ) -> DrafterPlan:
        """Take every ready draft; when there is none, or scores have waited too long, the ready scores of one batch.

        Only one batch of scores, so that a draft that comes in the meantime does not wait for those of all drafters.
        """
        drafts = self.take_drafts(now_s, is_ready)
        if drafts and self._scores and self._num_score_delays < MAX_SCORE_DELAYS:
            self._num_score_delays += 1
            return DrafterPlan(drafts, [], 0.0)
        due, waiting_scores = _partition(self._scores, lambda ticket: self._is_due(ticket, now_s, is_ready))
        scores, later = _partition(due, lambda ticket: batched_by(ticket) == batched_by(due[0]))
        self._scores = [*later, *waiting_scores]
        self._num_score_delays = 0
        if later:
            return DrafterPlan(drafts, scores, 0.0)
        waiting = [t.arrived_s + self._feature_grace_s - now_s for t in (*self._drafts, *self._scores)]
        return DrafterPlan(drafts, scores, max(min(waiting), 0.0) if waiting else None)

    def take_drafts(self, now_s: float, is_ready: Callable[[Ticket], bool]) -> list[Ticket]:
        """Take every ready draft whose caller still waits."""
        drafts, self._drafts = _partition(self._drafts, lambda ticket: self._is_due(ticket, now_s, is_ready))
        return [ticket for ticket in drafts if ticket.start()]

    def ends_any(self, sessions: Collection[SessionKey]) -> bool:
        """Whether a queued change opens or closes one of these sessions."""
        ends = (t.work for t in self._changes if isinstance(t.work, OpenSession | CloseSession))
        return any(SessionKey.of(work) in sessions for work in ends)

    def drain(self) -> list[Ticket]:
        """Return the tickets of everything that is pending, and forget it."""
        tickets = [*self._changes, *self._drafts, *self._scores]
        self._changes, self._drafts, self._scores = [], [], []
        return tickets

    def _is_due(self, ticket: Ticket, now_s: float, is_ready: Callable[[Ticket], bool]) -> bool:
        return now_s - ticket.arrived_s >= self._feature_grace_s or is_ready(ticket)

    def _without(self, tickets: list[Ticket], work: Work, reason: str) -> list[Ticket]:
        """Fail the tickets of the session that `work` ends or supersedes; return the others."""
        key = SessionKey.of(work)
        superseded, others = _partition(tickets, lambda ticket: SessionKey.of(ticket.work) == key)
        for ticket in superseded:
            if ticket.start():
                ticket.fail(UnknownSession(reason))
        return others


def _partition(tickets: list[Ticket], predicate: Callable[[Ticket], bool]) -> tuple[list[Ticket], list[Ticket]]:
    chosen: list[Ticket] = []
    others: list[Ticket] = []
    for ticket in tickets:
        (chosen if predicate(ticket) else others).append(ticket)
    return chosen, others
