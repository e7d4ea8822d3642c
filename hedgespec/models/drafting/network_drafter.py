"""A drafter with a network, as the engine sees it: sessions and their KV memory around the loops."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Generic

import numpy as np
import torch
from numpy.typing import NDArray

from hedgespec.errors import ReplicaBusy, UnknownSession
from hedgespec.learning.observations import new_part
from hedgespec.models.drafter_model import Usage
from hedgespec.models.drafting.draft_loops import draft_chains, draft_wide
from hedgespec.models.drafting.draft_network import B, DraftNetwork, Owner, S
from hedgespec.models.drafting.score_batches import Span, batches, joined_scores
from hedgespec.models.drafting.score_loops import score, score_prompts
from hedgespec.models.drafting.unscored_tokens import MAX_UNSCORED
from hedgespec.models.memory.kv_memory import KvMemory
from hedgespec.models.session_text import SessionText
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


class NetworkDrafter(Generic[S, B]):
    """A `DrafterModel` over a network. Drafters of one network can compute together, see `join`.

    max_cached_tokens: bound on the KV rows of all sessions
    """

    def __init__(
        self, owner: Owner, network: DraftNetwork[S, B], digest: str, max_sessions: int, max_cached_tokens: int
    ) -> None:
        self.drafter_id = self.batched_by = owner.drafter_id
        self.digest = digest
        self.features = owner.features
        self.uses_features = owner.features is not None
        self._owner = owner
        self._network = network
        self._max_sessions = max_sessions
        self._memory = KvMemory(max_cached_tokens)
        self._sessions: dict[str, S] = {}
        self._peers: Mapping[str, Mapping[str, S]] = {owner.drafter_id: self._sessions}

    @staticmethod
    def join(drafters: Sequence[NetworkDrafter[S, B]]) -> None:
        """Let drafters of one network compute together: the first one is asked for all of them."""
        peers = {drafter.drafter_id: drafter._sessions for drafter in drafters}
        for drafter in drafters:
            drafter._peers, drafter.batched_by = peers, drafters[0].drafter_id

    @torch.inference_mode()
    def open(self, spec: SessionSpec) -> None:
        if spec.session_id in self._sessions:  # not otherwise: features may have come before the session
            self.close(spec.session_id)
        if len(self._sessions) >= self._max_sessions:
            raise ReplicaBusy(f"All {self._max_sessions} sessions of drafter {self.drafter_id} are in use.")
        text = SessionText(spec, self._owner.vocabulary.vocab_size)
        final = spec.num_tokens + max(0, spec.sampling.max_tokens - len(spec.emitted_ids))
        slot = self._memory.open(final + self._network.num_draft_rows(spec))
        if self.features is not None:
            self.features.open(spec.session_id)
        self._sessions[spec.session_id] = self._network.new_session(self._owner, text, slot)

    def observe(self, session_id: str, observation: Observation) -> Observation:
        session = self._session(self.drafter_id, session_id)
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
        if self.features is not None:
            self.features.push(block)

    def has_newest_features(self, session_id: str) -> bool:
        session = self._sessions.get(session_id)
        return session is None or session.has_newest_features

    @torch.inference_mode()
    def draft(self, requests: Sequence[DraftRequest]) -> list[DraftTree]:
        sessions = [self._session_of(request) for request in requests]
        order = _order(sessions)
        self._network.catch_up(_distinct([sessions[index] for index in order]))
        trees = [EMPTY_DRAFT] * len(requests)
        for is_wide, draft in ((False, draft_chains), (True, draft_wide)):
            chosen = [index for index in order if sessions[index].is_wide == is_wide]
            if chosen:
                own = [sessions[index] for index in chosen], [requests[index] for index in chosen]
                for index, tree in zip(chosen, draft(self._network, *own), strict=True):
                    trees[index] = tree
        return trees

    @torch.inference_mode()
    def score_passes(self, requests: Sequence[ScoreRequest]) -> Generator[None, None, list[Scores]]:
        answers: list[list[Scores]] = [[] for _ in requests]
        for batch in batches(requests):
            batch.sort(key=lambda span: self._session_of(span).owner.index)
            sessions = [self._session_of(span) for span in batch]
            scored = yield from score(self._network, sessions, [span.observation for span in batch])
            for span, scores in zip(batch, scored, strict=True):
                for index, own in span.split(scores):
                    answers[index].append(own)
        return [joined_scores(parts) for parts in answers]

    @torch.inference_mode()
    def score_prompt(self, requests: Sequence[PromptScoreRequest]) -> list[NDArray[np.float32]]:
        sessions = [self._session_of(request) for request in requests]
        order = _order(sessions)
        self._network.catch_up(_distinct([sessions[index] for index in order]))
        scores = score_prompts(self._network, [(sessions[index], requests[index]) for index in order])
        found = dict(zip(order, scores, strict=True))
        return [found[index] for index in range(len(requests))]

    def close(self, session_id: str) -> None:
        session = self._sessions.pop(session_id, None)
        if session is not None:
            self._memory.free(session.slot)
        if self.features is not None:
            self.features.close(session_id)

    def usage(self) -> Usage:
        return Usage(len(self._sessions), self._memory.num_cached_tokens, self._memory.num_reserved_tokens)

    def _session_of(self, request: DraftRequest | ScoreRequest | PromptScoreRequest | Span) -> S:
        """Return the session, which may be another drafter's that computes together with this one."""
        return self._session(request.drafter_id or self.drafter_id, request.session_id)

    def _session(self, drafter_id: str, session_id: str) -> S:
        try:
            return self._peers[drafter_id][session_id]
        except KeyError:
            raise UnknownSession(f"Session {session_id!r} is not open on drafter {drafter_id}; open it.") from None


def _order(sessions: Sequence[S]) -> list[int]:
    """Return the sessions' indices in the order of `Owner.index`, which passes want."""
    return sorted(range(len(sessions)), key=lambda index: sessions[index].owner.index)


def _distinct(sessions: Sequence[S]) -> list[S]:
    return list({id(session): session for session in sessions}.values())
