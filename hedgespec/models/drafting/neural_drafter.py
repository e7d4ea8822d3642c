"""A drafter with a network as the engine sees it: sessions, KV memory, and which of them take part in a pass."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from hedgespec.errors import ReplicaBusy, UnknownSession
from hedgespec.learning.observations import new_part
from hedgespec.models.drafter_model import Usage
from hedgespec.models.drafting.network import B, Owner, S
from hedgespec.models.drafting.score_batches import Span, batches, joined_scores
from hedgespec.models.drafting.score_loops import ScoreLoops
from hedgespec.models.drafting.session_text import SessionText
from hedgespec.models.drafting.unscored import MAX_UNSCORED
from hedgespec.models.drafting.vocabulary import DraftVocabulary
from hedgespec.models.memory.kv_memory import KvMemory
from hedgespec.types import (
    EMPTY_DRAFT,
    DraftRequest,
    DraftTree,
    FeatureBlock,
    Observation,
    PromptScoreRequest,
    ScoreRequest,
    Scores,
    SessionSpec,
)


class NeuralDrafter(ScoreLoops[S, B]):
    """A `DrafterModel` whose network is given by the methods of `DraftNetwork`."""

    uses_features = False

    def __init__(
        self,
        drafter_id: str,
        digest: str,
        vocabulary: DraftVocabulary,
        max_sessions: int,
        max_cached_tokens: int,
        place: int = 0,
    ) -> None:
        """place: see `Owner`."""
        self.drafter_id = self.batched_by = drafter_id
        self.digest = digest
        self._owner = Owner(drafter_id, vocabulary, place)
        self._peers: Mapping[str, NeuralDrafter[S, B]] = {drafter_id: self}
        self._max_sessions = max_sessions
        self._memory = KvMemory(max_cached_tokens)
        self._sessions: dict[str, S] = {}

    # ----------------------------------------------------------------------------------------------------- DrafterModel

    @torch.inference_mode()
    def open(self, spec: SessionSpec) -> None:
        if spec.session_id in self._sessions:  # not otherwise: features may have come before the session
            self.close(spec.session_id)
        if len(self._sessions) >= self._max_sessions:
            raise ReplicaBusy(f"All {self._max_sessions} sessions of drafter {self.drafter_id} are in use.")
        text = SessionText(spec, self._owner.vocabulary.vocab_size)
        final = spec.num_tokens + max(0, spec.sampling.max_tokens - len(spec.emitted_ids))
        slot = self._memory.open(final + self._num_draft_rows(spec))
        self._sessions[spec.session_id] = self._new_session(text, slot)

    def observe(self, session_id: str, observation: Observation) -> Observation:
        session = self._session(session_id)
        new = session.text.observe(observation)
        if session.counts is not None:
            session.counts.append(new)
        own = session.unscored.add(new_part(observation, len(new)), observation.score_from)
        session.scored_until = max(session.scored_until, session.text.num_emitted - MAX_UNSCORED)
        if observation.wants_scores:
            session.wanted_from = min(session.wanted_from, own.start)
        elif session.wanted_from == own.start:
            session.wanted_from = session.text.num_emitted
        return own

    def push(self, block: FeatureBlock) -> None:
        """Only heads use features."""

    def has_newest_features(self, session_id: str) -> bool:
        return True

    @torch.inference_mode()
    def draft(self, requests: Sequence[DraftRequest]) -> list[DraftTree]:
        sessions = [self._session_of(request) for request in requests]
        order = _order(sessions)
        self._catch_up(_distinct([sessions[place] for place in order]))
        trees = [EMPTY_DRAFT] * len(requests)
        for is_wide, draft in ((False, self._draft_chains), (True, self._draft_wide)):
            places = [place for place in order if sessions[place].is_wide == is_wide]
            if places:
                drafted = draft([sessions[place] for place in places], [requests[place] for place in places])
                for place, tree in zip(places, drafted, strict=True):
                    trees[place] = tree
        return trees

    @torch.inference_mode()
    def score_passes(self, requests: Sequence[ScoreRequest]) -> Generator[None, None, list[Scores]]:
        answers: list[list[Scores]] = [[] for _ in requests]
        for batch in batches(requests):
            batch.sort(key=lambda span: self._session_of(span).owner.place)
            sessions = [self._session_of(span) for span in batch]
            scored = yield from self._score(sessions, [span.observation for span in batch])
            for span, scores in zip(batch, scored, strict=True):
                for place, own in span.split(scores):
                    answers[place].append(own)
        return [joined_scores(parts) for parts in answers]

    @torch.inference_mode()
    def score_prompt(self, requests: Sequence[PromptScoreRequest]) -> list[NDArray[np.float32]]:
        sessions = [self._session_of(request) for request in requests]
        order = _order(sessions)
        self._catch_up(_distinct([sessions[place] for place in order]))
        scores = self._score_prompts([(sessions[place], requests[place]) for place in order])
        found = dict(zip(order, scores, strict=True))
        return [found[place] for place in range(len(requests))]

    def close(self, session_id: str) -> None:
        session = self._sessions.pop(session_id, None)
        if session is not None:
            self._memory.free(session.slot)

    def usage(self) -> Usage:
        return Usage(len(self._sessions), self._memory.num_cached_tokens, self._memory.num_reserved_tokens)

    def _session_of(self, request: DraftRequest | ScoreRequest | PromptScoreRequest | Span) -> S:
        """Also of a drafter that computes together with this one."""
        owner = self._peers[request.drafter_id] if request.drafter_id else self
        return owner._session(request.session_id)

    def _session(self, session_id: str) -> S:
        try:
            return self._sessions[session_id]
        except KeyError:
            raise UnknownSession(f"Session {session_id!r} is not open on drafter {self.drafter_id}; open it.") from None


def _order(sessions: Sequence[S]) -> list[int]:
    """Their indices in the order in which passes go, see `Owner`."""
    return sorted(range(len(sessions)), key=lambda index: sessions[index].owner.place)


def _distinct(sessions: Sequence[S]) -> list[S]:
    return list({id(session): session for session in sessions}.values())
