"""The interface that a network implements so that the shared loops can draft and score with it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from torch import Tensor

from hedgespec.models.drafting.chain_draft import ChainDraft
from hedgespec.models.drafting.feature_buffer import FeatureBuffer
from hedgespec.models.drafting.score_columns import ScoreColumns
from hedgespec.models.drafting.shadow_cursor import ShadowCursor
from hedgespec.models.drafting.unscored_tokens import UnscoredTokens
from hedgespec.models.drafting.vocabulary import DraftVocabulary
from hedgespec.models.memory.kv_memory import KvSlot
from hedgespec.models.session_text import SessionText
from hedgespec.sampling.token_counts import token_counts
from hedgespec.types import Observation, SessionSpec


@dataclass(frozen=True, slots=True)
class Owner:
    """The drafter that a session belongs to.

    index:    its number among the drafters that compute together; a pass has their sessions in this order
    features: where the target's features for its sessions arrive; None for a network that uses none
    """

    drafter_id: str
    vocabulary: DraftVocabulary
    index: int = 0
    features: FeatureBuffer | None = None


class DraftSession:
    """One session of one drafter, whatever its network is.

    scored_until:     output index before which no score will be asked for; what only older scores need can go
    wanted_from:      output index of the first token whose scores were asked for and are still due
    is_prompt_scored: scores of the prompt will not be asked for (again)
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
        self.is_prompt_scored = spec.num_prompt_scores == 0
        self.counts = token_counts(spec.sampling, spec.prompt_ids, spec.emitted_ids)

    @property
    def is_wide(self) -> bool:
        return self.text.spec.draft_form.kind != "chain"

    @property
    def has_newest_features(self) -> bool:
        """Whether waiting would not make the next draft better."""
        return True

    def drafted(self, token_ids: list[int]) -> None:
        """Take note of a chain that was proposed at the end of the text."""


S = TypeVar("S", bound=DraftSession)
B = TypeVar("B")


class DraftNetwork(Protocol[S, B]):
    """A network that can draft and be scored; the loops are given one.

    Several sessions share each pass, also sessions of different drafters, in the order of `Owner.index`. Logits are over
    the columns of the drafters' `DraftVocabulary`.

    S: what is kept per session. B: what is kept per wide draft while it grows ("branches").
    """

    def new_session(self, owner: Owner, text: SessionText, slot: KvSlot) -> S: ...

    def num_draft_rows(self, spec: SessionSpec) -> int:
        """Return how many KV rows a draft needs behind the text."""
        ...

    def num_behind(self, session: S) -> int:
        """Return about how many rows catching up takes."""
        ...

    def catch_up(self, sessions: Sequence[S]) -> None:
        """Process everything that was verified since the last time, all sessions packed."""
        ...

    def complete_chains(self, drafts: Sequence[tuple[S, ChainDraft]]) -> None:
        """After `catch_up`: draft those chains that take fewer calls than one per token; the loop drafts the others."""
        ...

    def first_logits(self, sessions: Sequence[S]) -> list[Tensor | None]:
        """After `catch_up`: return logits [1, num_columns] of the next token; None where the network cannot tell."""
        ...

    def advance(self, sessions: Sequence[S], token_ids: Sequence[int]) -> Tensor:
        """Append one token to each session's chain and return the logits after it, [num_sessions, num_columns]."""
        ...

    def drop_drafts(self, sessions: Sequence[S]) -> None:
        """Forget everything that `advance` wrote."""
        ...

    def root(self, session: S, position: int) -> tuple[Tensor, B] | None:
        """Begin a wide draft whose first token has this position, at the end of the text or earlier.

        Returns logits [1, num_columns] of that token, and the branches, one row so far; None where it cannot tell.
        """
        ...

    def extend(self, steps: Sequence[tuple[B, list[int], list[int]]]) -> Tensor:
        """Grow wide drafts by one level in one pass and return the logits of all new rows, [total_rows, num_columns].

        steps: branches, rows of their last level, and the token that follows each of these rows
        Only one draft of a session grows at a time. What is written for it may be overwritten by any later call.
        """
        ...

    def logits_at(self, spans: Sequence[tuple[S, int, int]]) -> list[tuple[list[int], Tensor]]:
        """After `catch_up`, for each (session, first, end): return the positions in [first, end) that the network can
        tell about, and their logits [num_positions, num_columns], as first tokens of a draft."""
        ...

    def score_columns(self, session: S, observation: Observation) -> ScoreColumns:
        """Return empty scores for an observation."""
        ...

    def add_deeper(self, columns: Sequence[tuple[S, ScoreColumns]]) -> Generator[None]:
        """Add the columns of depth 2, 3, ... to scores that depend on where a draft starts; yield between passes."""
        ...
