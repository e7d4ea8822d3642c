"""The requests that an engine takes, and the ticket that carries a request in and its answer or failure back. No torch."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import structlog

from hedgespec.errors import HedgeSpecError, ReplicaLost
from hedgespec.observability.logging import failure_fields
from hedgespec.types import DraftRequest, DraftTree, Observation, PromptScoreRequest, ScoreRequest, SessionSpec

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OpenSession:
    """Open a session. drafter_id: one of the process's drafters; empty on a target."""

    spec: SessionSpec
    drafter_id: str = ""

    @property
    def session_id(self) -> str:
        return self.spec.session_id


@dataclass(frozen=True, slots=True)
class Verify:
    """Verify a draft in one target pass."""

    session_id: str
    tree: DraftTree


@dataclass(frozen=True, slots=True)
class Observe:
    """Append verified tokens; when their scores are wanted, the runner goes on with a `ScoreRequest` in its place."""

    session_id: str
    observation: Observation
    drafter_id: str


@dataclass(frozen=True, slots=True)
class CloseSession:
    """Free a session. drafter_id: as in `OpenSession`."""

    session_id: str
    drafter_id: str = ""


Work = OpenSession | Verify | DraftRequest | Observe | ScoreRequest | PromptScoreRequest | CloseSession


class SessionKey(NamedTuple):
    """One session of one drafter, or of the target with an empty drafter_id."""

    drafter_id: str
    session_id: str

    @staticmethod
    def of(work: Work) -> SessionKey:
        """Return the session that a request is for."""
        return SessionKey("" if isinstance(work, Verify) else work.drafter_id, work.session_id)


@dataclass(eq=False, slots=True)
class Ticket:
    """One submitted request and the future of its answer. arrived_s: time of submission on the engine's clock."""

    work: Work
    arrived_s: float
    future: Future[Any] = field(default_factory=Future)

    def start(self) -> bool:
        """Return whether the caller still waits; otherwise the work must not be done. May be called again."""
        return self.future.running() or (not self.future.done() and self.future.set_running_or_notify_cancel())

    def resolve(self, result: Any) -> None:
        """Answer the request, unless it has been answered or cancelled."""
        if not self.future.done():
            self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Raise an error at the caller, unless the request has been answered or cancelled."""
        if not self.future.done():
            self.future.set_exception(error)


def as_own_error(error: Exception, role: str) -> HedgeSpecError:
    """Return one of our exceptions as it is, and any other as a ReplicaLost that names and chains it.

    Others are logged with their file and line: requests go on without a drafter that failed, so only the log says why.
    """
    if isinstance(error, HedgeSpecError):
        return error
    log.error("model_failed", reason=role, **failure_fields(error))
    lost = ReplicaLost(f"The {role} failed: {type(error).__name__}: {error}")
    lost.__cause__ = error
    return lost
