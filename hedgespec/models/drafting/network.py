"""What a drafter's network has to provide; `neural_drafter` makes drafts and scores of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

from hedgespec.models.drafting.score_columns import ScoreColumns
from hedgespec.models.drafting.session_text import SessionText
from hedgespec.models.drafting.shadow_cursor import ShadowCursor
from hedgespec.models.drafting.unscored import UnscoredTokens
from hedgespec.models.drafting.vocabulary import DraftVocabulary
from hedgespec.models.memory.kv_memory import KvSlot
from hedgespec.sampling.token_counts import token_counts
from hedgespec.types import SessionSpec


@dataclass(frozen=True, slots=True)
class Owner:
    """The drafter that a session belongs to. place: among the drafters that compute together; passes go in this order."""

    drafter_id: str
    vocabulary: DraftVocabulary
    place: int = 0


class DraftSession:
    """One session of one drafter.

    scored_until: output index before which no score will be asked for; what only older scores need can be forgotten
    wanted_from:  output index of the first token whose scores have been asked for, as far as known
    """

    def __init__(self, owner: Owner, text: SessionText, slot: KvSlot) -> None:
        self.owner = owner
        self.text = text
        self.slot = slot
        self.scored_until = text.num_emitted
        self.wanted_from = text.num_emitted
        self.unscored = UnscoredTokens()
        self.cursor = ShadowCursor()
        spec = text.spec
        self.counts = token_counts(spec.sampling, spec.prompt_ids, spec.emitted_ids)

    @property
    def is_wide(self) -> bool:
        return self.text.spec.draft_form.kind != "chain"


S = TypeVar("S", bound=DraftSession)
B = TypeVar("B")


class DraftNetwork(ABC, Generic[S, B]):
    """Several sessions share each pass, also sessions of different drafters, in the order of their places. Logits are over
    the columns of their drafters' `DraftVocabulary`.

    S: what is kept per session. B: what is kept per tree that is being drafted ("branches").
    """

    @abstractmethod
    def _new_session(self, text: SessionText, slot: KvSlot) -> S: ...

    @abstractmethod
    def _num_behind(self, session: S) -> int:
        """How many rows catching up takes, about."""

    @abstractmethod
    def _catch_up(self, sessions: Sequence[S]) -> None:
        """Process everything that was verified since the last time, all sessions packed."""

    @abstractmethod
    def _first_logits(self, sessions: Sequence[S]) -> list[Tensor | None]:
        """After `_catch_up`: logits [1, num_columns] of the next token, None for a session that has nothing to go on."""

    @abstractmethod
    def _advance(self, sessions: Sequence[S], token_ids: Sequence[int]) -> Tensor:
        """Follow one more token of a chain per session and return logits [num_sessions, num_columns] after it."""

    @abstractmethod
    def _drop_drafts(self, sessions: Sequence[S]) -> None:
        """Forget everything that `_advance` wrote."""

    @abstractmethod
    def _root(self, session: S, position: int) -> tuple[Tensor, B] | None:
        """Begin a draft whose first token stands at `position`, the end of the text or earlier: logits [1, num_columns] of
        it, and the branches, one row so far. None when there is nothing to go on."""

    @abstractmethod
    def _extend(self, steps: Sequence[tuple[B, list[int], list[int]]]) -> Tensor:
        """One pass: per step, rows that follow the given rows of its last step with the given tokens.

        Returns the logits after all of them, [total rows, num_columns]. Branches of one session are never extended while
        others of it are.
        """

    @abstractmethod
    def _end_branches(self, sessions: Sequence[S]) -> None:
        """Forget everything that `_extend` wrote."""

    @abstractmethod
    def _logits_at(self, spans: Sequence[tuple[S, int, int]]) -> list[tuple[list[int], Tensor]]:
        """After `_catch_up`, per (session, first, end): of which positions in [first, end) the drafter can tell the law,
        and their logits [num, num_columns]."""

    def _is_by_start(self, session: S) -> bool:
        """Whether its scores depend on where a round started."""
        return False

    def _drafted(self, session: S, token_ids: list[int]) -> None:
        """A chain was proposed at the end of the session's text."""

    def _add_deeper(self, columns: Sequence[tuple[S, ScoreColumns]]) -> Generator[None]:
        """Add the columns of depth 2, 3, ... to scores by start; yield between passes."""
        yield from ()

    def _num_draft_rows(self, spec: SessionSpec) -> int:
        """KV rows that a draft needs behind the text."""
        return spec.max_draft_tokens
