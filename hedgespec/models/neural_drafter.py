"""The part that drafters with a network share: sessions, KV memory, the draft loop and the scores by depth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from hedgespec.errors import ReplicaBusy, UnknownSession
from hedgespec.models.drafter_model import DraftRequest, ScoreRequest, Usage
from hedgespec.models.kv_memory import KvMemory, KvSlot
from hedgespec.models.proposing import DraftInProgress, score_column
from hedgespec.models.session_text import SessionText, new_part
from hedgespec.speculative.processing import TokenCounts
from hedgespec.types import DraftTree, FeatureBlock, Observation, Scores, SessionSpec


class DraftSession:
    """One session of one drafter.

    scored_until: output index before which no score will be asked for; what only older scores need can be forgotten
    """

    def __init__(self, text: SessionText, slot: KvSlot) -> None:
        self.text = text
        self.slot = slot
        self.scored_until = text.num_emitted
        spec = text.spec
        self.counts = TokenCounts(spec.prompt_ids, spec.emitted_ids) if spec.sampling.has_penalties else None


S = TypeVar("S", bound=DraftSession)


class NeuralDrafter(ABC, Generic[S]):
    """A `DrafterModel` whose network is given by four methods. Several sessions share each pass of the network."""

    uses_features = False

    def __init__(
        self, drafter_id: str, digest: str, vocab_size: int, max_sessions: int, max_cached_tokens: int
    ) -> None:
        self.drafter_id = drafter_id
        self.digest = digest
        self._vocab_size = vocab_size
        self._max_sessions = max_sessions
        self._memory = KvMemory(max_cached_tokens)
        self._sessions: dict[str, S] = {}

    # ------------------------------------------------------------------------------------------ what a network provides

    @abstractmethod
    def _new_session(self, text: SessionText, slot: KvSlot) -> S: ...

    @abstractmethod
    def _catch_up(self, sessions: Sequence[S]) -> None:
        """Process everything that was verified since the last time, all sessions packed."""

    @abstractmethod
    def _first_logits(self, sessions: Sequence[S]) -> list[Tensor | None]:
        """After `_catch_up`: logits [1, vocab] of the next token, None for a session that has nothing to go on."""

    @abstractmethod
    def _advance(self, sessions: Sequence[S], token_ids: Sequence[int]) -> Tensor:
        """Follow one more drafted token per session and return logits [num_sessions, vocab] after it."""

    @abstractmethod
    def _drop_drafts(self, sessions: Sequence[S]) -> None:
        """Forget everything that `_advance` wrote."""

    @abstractmethod
    def _columns(self, session: S, observation: Observation) -> list[tuple[list[int], Tensor]]:
        """After `_catch_up`: per depth, which tokens of the observation it has logits for, and those [num, vocab]."""

    # ----------------------------------------------------------------------------------------------------- DrafterModel

    @torch.inference_mode()
    def open(self, spec: SessionSpec) -> None:
        if spec.session_id in self._sessions:  # not otherwise: features may have come before the session
            self.close(spec.session_id)
        if len(self._sessions) >= self._max_sessions:
            raise ReplicaBusy(f"All {self._max_sessions} sessions of drafter {self.drafter_id} are in use.")
        text = SessionText(spec, self._vocab_size)
        final = spec.num_tokens + max(0, spec.sampling.max_tokens - len(spec.emitted_ids))
        slot = self._memory.open(final + spec.max_draft_tokens)
        self._sessions[spec.session_id] = self._new_session(text, slot)

    def observe(self, session_id: str, observation: Observation) -> Observation:
        session = self._session(session_id)
        new = session.text.observe(observation)
        if session.counts is not None:
            session.counts.append(new)
        if not observation.wants_scores:
            session.scored_until = session.text.num_emitted
        return new_part(observation, len(new))

    def push(self, block: FeatureBlock) -> None:
        """Only heads use features."""

    def has_newest_features(self, session_id: str) -> bool:
        return True

    @torch.inference_mode()
    def draft(self, requests: Sequence[DraftRequest]) -> list[DraftTree]:
        sessions = [self._session(request.session_id) for request in requests]
        self._catch_up(_distinct(sessions))
        drafts = []
        for session, request in zip(sessions, requests, strict=True):
            num_tokens = min(request.num_draft_tokens, session.text.spec.max_draft_tokens)
            drafts.append(DraftInProgress(session.text, session.counts, request.round_index, num_tokens))
        try:
            self._run_drafts(sessions, drafts)
        finally:
            self._drop_drafts(sessions)
        return [draft.finished(self.drafter_id) for draft in drafts]

    @torch.inference_mode()
    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        sessions = [self._session(request.session_id) for request in requests]
        self._catch_up(_distinct(sessions))
        return [self._score(s, r.observation) for s, r in zip(sessions, requests, strict=True)]

    def close(self, session_id: str) -> None:
        session = self._sessions.pop(session_id, None)
        if session is not None:
            self._memory.free(session.slot)

    def usage(self) -> Usage:
        return Usage(len(self._sessions), self._memory.num_cached_tokens, self._memory.num_reserved_tokens)

    # ---------------------------------------------------------------------------------------------------------- helpers

    def _session(self, session_id: str) -> S:
        try:
            return self._sessions[session_id]
        except KeyError:
            raise UnknownSession(f"Session {session_id!r} is not open on drafter {self.drafter_id}; open it.") from None

    def _run_drafts(self, sessions: Sequence[S], drafts: Sequence[DraftInProgress]) -> None:
        active: list[tuple[S, DraftInProgress]] = []
        for session, draft, logits in zip(sessions, drafts, self._first_logits(sessions), strict=True):
            if logits is not None and not draft.is_complete:
                draft.extend(logits)
                active.append((session, draft))
        active = [pair for pair in active if not pair[1].is_complete]
        while active:
            logits = self._advance([s for s, _ in active], [d.token_ids[-1] for _, d in active])
            for row, (_, draft) in enumerate(active):
                draft.extend(logits[row : row + 1])
            active = [pair for pair in active if not pair[1].is_complete]

    def _score(self, session: S, observation: Observation) -> Scores:
        columns = [
            score_column(session.text, observation, rows, logits)
            for rows, logits in self._columns(session, observation)
        ]
        session.scored_until = max(session.scored_until, observation.start + len(observation.token_ids))
        acceptance = np.stack([acceptance for acceptance, _ in columns], axis=1)
        overlaps = [overlap for _, overlap in columns if overlap is not None]
        return Scores(observation.start, acceptance, np.stack(overlaps, axis=1) if overlaps else None)


def _distinct(sessions: Sequence[S]) -> list[S]:
    return list({id(session): session for session in sessions}.values())
