"""What the drafter engine needs of a drafter, whatever it is made of. No torch here: `ngram` runs without it."""

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
    """num_cached_tokens: rows in KV memory (or indexed tokens); num_reserved_tokens: what sessions may grow to;
    num_prefix_tokens: rows that the prefix cache keeps in unreserved memory."""

    num_sessions: int = 0
    num_cached_tokens: int = 0
    num_reserved_tokens: int = 0
    num_prefix_tokens: int = 0


class DrafterModel(Protocol):
    """One drafter's sessions and computations. Called by one thread, except `push`.

    What takes several requests raises for the whole batch; the engine then asks for each request alone, so that one bad
    session does not hurt the others. An exception must leave every session usable.

    batched_by: the drafter that is to be asked in this one's place, which computes its requests together with those of
        others; its own id where it computes alone
    """

    drafter_id: str
    digest: str
    uses_features: bool
    batched_by: str

    def open(self, spec: SessionSpec) -> None:
        """Make a session known. Raises ReplicaBusy, RequestError."""
        ...

    def observe(self, session_id: str, observation: Observation) -> Observation:
        """Append verified tokens; return what is to be scored when scores are wanted (`Observation.score_from`), else
        the part that was new. Raises UnknownSession, InvalidObservation."""
        ...

    def push(self, block: FeatureBlock) -> None:
        """Take target features, from any thread, before or after `open`."""
        ...

    def has_newest_features(self, session_id: str) -> bool:
        """Whether waiting would not make the next draft better."""
        ...

    def draft(self, requests: Sequence[DraftRequest]) -> list[DraftTree]: ...

    def score_passes(self, requests: Sequence[ScoreRequest]) -> Generator[None, None, list[Scores]]:
        """Yield between passes. Until the next one sessions may be told more and may draft, but must not be closed."""
        ...

    def score_prompt(self, requests: Sequence[PromptScoreRequest]) -> list[NDArray[np.float32]]:
        """See `protocols.Drafter.score_prompt`: one number per row of each request."""
        ...

    def close(self, session_id: str) -> None: ...

    def usage(self) -> Usage: ...
