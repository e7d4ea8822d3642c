"""How drafters with a network score verified tokens: their first tokens, deeper ones, trees, and the prompt."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.models.drafting.draft_loops import DraftLoops
from hedgespec.models.drafting.form_draft import DraftPlace, TreeDraft, WideDraft
from hedgespec.models.drafting.network import B, S
from hedgespec.models.drafting.score_columns import ScoreColumns, counts_before
from hedgespec.models.drafting.shadow_cursor import CursorScores
from hedgespec.sampling.processing import soft_distribution
from hedgespec.speculative.scoring import prompt_acceptance_probs
from hedgespec.types import Observation, PromptScoreRequest, Scores

CATCH_UP_ROWS, CATCH_UP_PARTS = 48, 4
"""About so many rows are caught up in one pass of a score, or a quarter of all: more would keep drafts waiting, fewer would
call operators for little."""


class ScoreLoops(DraftLoops[S, B]):
    """A pass at a time; trees draft as they are scored."""

    def _score(self, sessions: Sequence[S], observations: Sequence[Observation]) -> Generator[None, None, list[Scores]]:
        """One observation per session, in the order of the sessions' places."""
        for part in in_parts(sessions, self._num_behind):
            self._catch_up(part)
            yield
        columns: dict[int, ScoreColumns] = {}
        walks: dict[int, CursorScores] = {}
        for place, (session, observation) in enumerate(zip(sessions, observations, strict=True)):
            spec = session.text.spec
            if spec.draft_form.kind == "tree":
                depth = max(spec.max_draft_tokens, 1)
                walks[place] = CursorScores(session.cursor, observation, spec.sampling.method, depth)
            else:
                columns[place] = self._columns(session, observation)
        self._add_first([(sessions[place], own) for place, own in columns.items()])
        yield from self._add_deeper([(sessions[place], own) for place, own in columns.items() if own.is_by_start])
        self._walk([(sessions[place], walk) for place, walk in walks.items()])
        scores = {place: done.finished() for place, done in columns.items()}
        scores |= {place: done.finished() for place, done in walks.items()}
        for session, observation in zip(sessions, observations, strict=True):
            session.scored_until = max(session.scored_until, observation.start + len(observation.token_ids))
            session.wanted_from = session.text.num_emitted
        return [scores[place] for place in range(len(sessions))]

    def _columns(self, session: S, observation: Observation) -> ScoreColumns:
        is_by_start = self._is_by_start(session)
        return ScoreColumns(session.text, session.owner.vocabulary, observation, is_by_start=is_by_start)

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
        probs = soft_distribution(session.owner.vocabulary.spread(logits), session.text.spec.sampling, None, None)
        known = np.zeros(num_rows, bool)
        known[np.asarray(positions, np.int64) - first] = True

        def draft_probs(rows: NDArray[np.int64], ids: NDArray[np.int32]) -> NDArray[np.float64]:
            values: NDArray[np.float64] = probs[torch.from_numpy(rows), torch.from_numpy(ids)].double().cpu().numpy()
            return values

        return prompt_acceptance_probs(draft_probs, request.prompt_top, known)


def in_parts(sessions: Sequence[S], num_rows: Callable[[S], int]) -> Iterator[list[S]]:
    """The sessions in order, in passes of so many rows; a session is never cut."""
    rows = [num_rows(session) for session in sessions]
    most = max(CATCH_UP_ROWS, sum(rows) // CATCH_UP_PARTS)
    part: list[S] = []
    total = 0
    for session, own in zip(sessions, rows, strict=True):
        if part and total + own > most:
            yield part
            part, total = [], 0
        part.append(session)
        total += own
    if part:
        yield part
