"""The part that drafters with a network share: sessions, KV memory, the draft loops and the scores."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.errors import ReplicaBusy, UnknownSession
from hedgespec.models.drafter_model import DraftRequest, PromptScoreRequest, ScoreRequest, Usage
from hedgespec.models.drafting.form_draft import DraftPlace, TreeDraft, WideDraft, wide_draft
from hedgespec.models.drafting.network import B, DraftNetwork, Owner, S
from hedgespec.models.drafting.proposing import DraftInProgress
from hedgespec.models.drafting.score_batches import Span, batches, joined_scores
from hedgespec.models.drafting.score_columns import ScoreColumns, counts_before
from hedgespec.models.drafting.session_text import SessionText
from hedgespec.models.drafting.shadow_cursor import CursorScores
from hedgespec.models.drafting.unscored import MAX_UNSCORED
from hedgespec.models.drafting.vocabulary import DraftVocabulary
from hedgespec.models.memory.kv_memory import KvMemory
from hedgespec.speculative.observations import new_part
from hedgespec.speculative.processing import softened
from hedgespec.speculative.scoring import prompt_overlap
from hedgespec.types import EMPTY_DRAFT, DraftTree, FeatureBlock, Observation, Scores, SessionSpec


class NeuralDrafter(DraftNetwork[S, B]):
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
        order = sorted(range(len(requests)), key=lambda place: sessions[place].owner.place)
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
            scored = yield from self._score(batch)
            for span, scores in zip(batch, scored, strict=True):
                for place, own in span.split(scores):
                    answers[place].append(own)
        return [joined_scores(parts) for parts in answers]

    @torch.inference_mode()
    def score_prompt(self, requests: Sequence[PromptScoreRequest]) -> list[NDArray[np.float32]]:
        asked = {place: (self._session_of(request), request) for place, request in enumerate(requests)}
        in_order = sorted(asked.items(), key=lambda item: item[1][0].owner.place)
        self._catch_up(_distinct([session for _, (session, _) in in_order]))
        scores = self._score_prompts([pair for _, pair in in_order])
        found = {place: own for (place, _), own in zip(in_order, scores, strict=True)}
        return [found[place] for place in range(len(requests))]

    def close(self, session_id: str) -> None:
        session = self._sessions.pop(session_id, None)
        if session is not None:
            self._memory.free(session.slot)

    def usage(self) -> Usage:
        return Usage(len(self._sessions), self._memory.num_cached_tokens, self._memory.num_reserved_tokens)

    # ----------------------------------------------------------------------------------------------------------- drafts

    def _draft_chains(self, sessions: Sequence[S], requests: Sequence[DraftRequest]) -> list[DraftTree]:
        drafts = []
        for session, request in zip(sessions, requests, strict=True):
            num_tokens = min(request.num_draft_tokens, session.text.spec.max_draft_tokens)
            if request.num_nodes:
                num_tokens = min(num_tokens, request.num_nodes)
            place = session.text, session.owner.vocabulary, session.counts, request.round_index
            drafts.append(DraftInProgress(*place, num_tokens))
        try:
            self._run_chains(sessions, drafts)
        finally:
            self._drop_drafts(sessions)
        for session, draft in zip(sessions, drafts, strict=True):
            self._drafted(session, draft.token_ids)
        return [draft.finished(s.owner.drafter_id) for s, draft in zip(sessions, drafts, strict=True)]

    def _run_chains(self, sessions: Sequence[S], drafts: Sequence[DraftInProgress]) -> None:
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

    def _draft_wide(self, sessions: Sequence[S], requests: Sequence[DraftRequest]) -> list[DraftTree]:
        drafts = []
        for session, request in zip(sessions, requests, strict=True):
            text = session.text
            place = DraftPlace(text.spec, session.counts, text.num_emitted, request.round_index)
            num_tokens = min(request.num_draft_tokens, text.spec.max_draft_tokens)
            drafts.append((session, len(text), wide_draft(place, num_tokens, request.num_nodes)))
        self._grow(drafts)
        return [draft.finished(session.owner.drafter_id) for session, _, draft in drafts]

    def _grow(self, drafts: Sequence[tuple[S, int, WideDraft]]) -> None:
        """Grow drafts that begin at the given positions until they are complete, one pass per level for all of them."""
        active: list[tuple[S, B, WideDraft]] = []
        try:
            for session, position, draft in drafts:
                root = self._root(session, position)
                if root is not None:
                    draft.extend(session.owner.vocabulary.spread(root[0]))
                    active.append((session, root[1], draft))
            active = [growing for growing in active if growing[2].tokens]
            while active:
                logits = self._extend([(branches, d.parent_rows, d.tokens) for _, branches, d in active])
                parts = logits.split([len(draft.tokens) for _, _, draft in active])
                for (session, _, draft), own in zip(active, parts, strict=True):
                    draft.extend(session.owner.vocabulary.spread(own))
                active = [growing for growing in active if growing[2].tokens]
        finally:
            self._end_branches([session for session, _, _ in drafts])

    # ----------------------------------------------------------------------------------------------------------- scores

    def _score(self, spans: Sequence[Span]) -> Generator[None, None, list[Scores]]:
        """At most one span per session, in the order of the sessions' places."""
        sessions = [self._session_of(span) for span in spans]
        observations = [span.observation for span in spans]
        self._catch_up(sessions)
        yield
        columns: dict[int, ScoreColumns] = {}
        walks: dict[int, CursorScores] = {}
        for place, (session, observation) in enumerate(zip(sessions, observations, strict=True)):
            spec = session.text.spec
            if spec.draft_form.kind == "tree":
                depth = max(spec.max_draft_tokens, 1)
                walks[place] = CursorScores(session.cursor, observation, spec.sampling.method, depth)
            else:
                is_by_start = self._is_by_start(session)
                vocabulary = session.owner.vocabulary
                columns[place] = ScoreColumns(session.text, vocabulary, observation, is_by_start=is_by_start)
        self._add_first([(sessions[place], own) for place, own in columns.items()])
        yield from self._add_deeper([(sessions[place], own) for place, own in columns.items() if own.is_by_start])
        self._walk([(sessions[place], walk) for place, walk in walks.items()])
        scores = {place: done.finished() for place, done in columns.items()}
        scores |= {place: done.finished() for place, done in walks.items()}
        for session, observation in zip(sessions, observations, strict=True):
            session.scored_until = max(session.scored_until, observation.start + len(observation.token_ids))
            session.wanted_from = session.text.num_emitted
        return [scores[place] for place in range(len(spans))]

    def _add_first(self, columns: Sequence[tuple[S, ScoreColumns]]) -> None:
        spans = []
        for session, own in columns:
            first = session.text.num_prompt + own.observation.start
            spans.append((session, first, first + len(own.observation.token_ids)))
        for (_, own), (_, first, _), (positions, logits) in zip(columns, spans, self._logits_at(spans), strict=True):
            own.add_first([position - first for position in positions], logits)

    def _walk(self, walks: Sequence[tuple[S, CursorScores]]) -> None:
        """Let every session's cursor draft and follow the text until its observation ends."""
        for _, walk in walks:
            walk.walk()
        active = [(session, walk) for session, walk in walks if not walk.is_complete]
        while active:
            drafts = [(session, *self._shadow_draft(session, walk)) for session, walk in active]
            self._grow(drafts)
            for (session, walk), (_, _, draft) in zip(active, drafts, strict=True):
                walk.cursor.enter(draft.finished(session.owner.drafter_id))
                walk.walk()
            active = [(session, walk) for session, walk in active if not walk.is_complete]

    def _shadow_draft(self, session: S, walk: CursorScores) -> tuple[int, WideDraft]:
        text, at = session.text, walk.cursor.at
        place = DraftPlace(text.spec, counts_before(text, at), at)
        realised = None if walk.needs_whole_trees else walk.realised
        return text.num_prompt + at, TreeDraft(place, text.spec.max_draft_tokens, realised=realised)

    def _score_prompts(self, asked: Sequence[tuple[S, PromptScoreRequest]]) -> list[NDArray[np.float32]]:
        ends = [(session.text.num_prompt, request.prompt_top.num_rows) for session, request in asked]
        spans = [(session, max(end - num, 1), end) for (session, _), (end, num) in zip(asked, ends, strict=True)]
        laws = self._logits_at(spans)
        return [self._score_prompt(*pair, *law) for pair, law in zip(asked, laws, strict=True)]

    def _score_prompt(
        self, session: S, request: PromptScoreRequest, positions: list[int], logits: Tensor
    ) -> NDArray[np.float32]:
        num_rows = request.prompt_top.num_rows
        first = session.text.num_prompt - num_rows
        probs = softened(session.owner.vocabulary.spread(logits), session.text.spec.sampling, None, None)
        known = np.zeros(num_rows, bool)
        known[np.asarray(positions, np.int64) - first] = True

        def draft_probs(rows: NDArray[np.int64], ids: NDArray[np.int32]) -> NDArray[np.float64]:
            values: NDArray[np.float64] = probs[torch.from_numpy(rows), torch.from_numpy(ids)].double().cpu().numpy()
            return values

        return prompt_overlap(draft_probs, request.prompt_top, known)

    def _session_of(self, request: DraftRequest | ScoreRequest | PromptScoreRequest | Span) -> S:
        """Also of a drafter that computes together with this one."""
        owner = self._peers[request.drafter_id] if request.drafter_id else self
        return owner._session(request.session_id)

    def _session(self, session_id: str) -> S:
        try:
            return self._sessions[session_id]
        except KeyError:
            raise UnknownSession(f"Session {session_id!r} is not open on drafter {self.drafter_id}; open it.") from None


def _distinct(sessions: Sequence[S]) -> list[S]:
    return list({id(session): session for session in sessions}.values())
