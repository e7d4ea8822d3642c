"""What can be asked of an engine, and the ticket that carries the answer back. No torch."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from hedgespec.types import DraftRequest, DraftTree, Observation, PromptScoreRequest, ScoreRequest, SessionSpec


@dataclass(frozen=True, slots=True)
class OpenSession:
    """drafter_id: which drafter of the process; empty on a target."""

    spec: SessionSpec
    drafter_id: str = ""

    @property
    def session_id(self) -> str:
        return self.spec.session_id


@dataclass(frozen=True, slots=True)
class Verify:
    session_id: str
    round_index: int
    tree: DraftTree


@dataclass(frozen=True, slots=True)
class Observe:
    """Append verified tokens; when their scores are wanted, the runner goes on with a `ScoreRequest` in its place."""

    session_id: str
    observation: Observation
    drafter_id: str


@dataclass(frozen=True, slots=True)
class CloseSession:
    session_id: str
    drafter_id: str = ""


DrafterWork = OpenSession | DraftRequest | Observe | ScoreRequest | PromptScoreRequest | CloseSession
Work = DrafterWork | Verify


@dataclass(frozen=True, slots=True)
class SessionKey:
    """One session of one drafter."""

    drafter_id: str
    session_id: str

    @staticmethod
    def of(work: DrafterWork) -> SessionKey:
        return SessionKey(work.drafter_id, work.session_id)


@dataclass(eq=False, slots=True)
class Ticket:
    """One piece of submitted work. arrived_s: when, on the engine's clock."""

    work: Work
    arrived_s: float
    future: Future[Any] = field(default_factory=Future)

    def start(self) -> bool:
        """False when the caller has gone: the work must not be done. May be called again."""
        return self.future.running() or (not self.future.done() and self.future.set_running_or_notify_cancel())

    def resolve(self, result: Any) -> None:
        if not self.future.done():
            self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)
