"""The interface between the drafter engine and drafters of any kind. No torch here: `ngram` runs without it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hedgespec.types import (
    DraftRequest,
    DraftTree,
    FeatureBlock,
    Observation,
    PromptScoreRequest,
    ScoreRequest,
    Scores,
    SessionSpec,
)


@dataclass(frozen=True, slots=True)
class Usage:
    """What sessions hold.

    num_cached_tokens: rows in KV memory (or indexed tokens); num_reserved_tokens: what sessions may grow to;
    num_prefix_tokens: rows that the prefix cache keeps in unreserved memory
    """

    num_sessions: int = 0
    num_cached_tokens: int = 0
    num_reserved_tokens: int = 0
    num_prefix_tokens: int = 0


class DrafterModel(Protocol):
    """One drafter's sessions and computations. Called by one thread, except `push`.

    A method that takes several requests raises for all of them; the engine then asks for each request alone, so that one
    bad session does not hurt the others. An exception must leave every session usable.

    batched_by: id of the drafter to ask instead of this one, which computes its requests together with those of others;
        its own id where it computes alone
    """

    drafter_id: str
    digest: str
    uses_features: bool
    batched_by: str

    def open(self, spec: SessionSpec) -> None:
        """Begin a session. Raises ReplicaBusy, RequestError."""
        ...

    def observe(self, session_id: str, observation: Observation) -> Observation:
        """Append verified tokens.

        Returns what is to be scored when scores are wanted (`Observation.score_from`), else the part that was new.
        Raises UnknownSession, InvalidObservation.
        """
        ...

    def push(self, block: FeatureBlock) -> None:
        """Take target features, from any thread, before or after `open`."""
        ...

    def has_newest_features(self, session_id: str) -> bool:
        """Whether waiting would not make the next draft better."""
        ...

    def draft(self, requests: Sequence[DraftRequest]) -> list[DraftTree]:
        """Draft in the forms of the sessions; at most one request per session."""
        ...

    def score_passes(self, requests: Sequence[ScoreRequest]) -> Generator[None, None, list[Scores]]:
        """Compute scores; yield between passes. Meanwhile sessions may observe more and draft, but must not be closed."""
        ...

    def score_prompt(self, requests: Sequence[PromptScoreRequest]) -> list[NDArray[np.float32]]:
        """Score prompts as `protocols.Drafter.score_prompt` does: one number per row of each request."""
        ...

    def close(self, session_id: str) -> None: ...

    def usage(self) -> Usage: ...
