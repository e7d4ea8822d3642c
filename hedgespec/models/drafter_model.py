"""What the drafter engine needs of a drafter, whatever it is made of. No torch here: `ngram` runs without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hedgespec.types import DraftTree, FeatureBlock, Observation, Scores, SessionSpec


@dataclass(frozen=True, slots=True)
class DraftRequest:
    session_id: str
    round_index: int
    num_draft_tokens: int


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """observation: tokens that `observe` has already appended."""

    session_id: str
    observation: Observation


@dataclass(frozen=True, slots=True)
class Usage:
    """num_cached_tokens: rows in KV memory (or indexed tokens); num_reserved_tokens: what sessions may grow to."""

    num_sessions: int = 0
    num_cached_tokens: int = 0
    num_reserved_tokens: int = 0


class DrafterModel(Protocol):
    """One drafter's sessions and computations. Called by one thread, except `push`.

    `draft` and `score` raise for the whole batch; the engine then asks for each request alone, so that one bad session
    does not hurt the others. An exception must leave every session usable.
    """

    drafter_id: str
    digest: str
    uses_features: bool

    def open(self, spec: SessionSpec) -> None:
        """Make a session known. Raises ReplicaBusy, RequestError."""
        ...

    def observe(self, session_id: str, observation: Observation) -> Observation:
        """Append verified tokens; return the part that was new. Raises UnknownSession, InvalidObservation."""
        ...

    def push(self, block: FeatureBlock) -> None:
        """Take target features, from any thread, before or after `open`."""
        ...

    def has_newest_features(self, session_id: str) -> bool:
        """Whether waiting would not make the next draft better."""
        ...

    def draft(self, requests: Sequence[DraftRequest]) -> list[DraftTree]: ...

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]: ...

    def close(self, session_id: str) -> None: ...

    def usage(self) -> Usage: ...
