"""The loops that score verified tokens with a network: first tokens of drafts, deeper ones, trees, and the prompt."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.models.drafting.draft_loops import grow
from hedgespec.models.drafting.draft_network import B, DraftNetwork, S
from hedgespec.models.drafting.score_columns import ScoreColumns, counts_before
from hedgespec.models.drafting.shadow_cursor import CursorScores
from hedgespec.models.drafting.wide_draft import DraftStart, TreeDraft, WideDraft
from hedgespec.sampling.processing import soft_distribution
from hedgespec.speculative.scoring import prompt_acceptance_probs
from hedgespec.types import Observation, PromptScoreRequest, Scores

CATCH_UP_ROWS, CATCH_UP_PARTS = 48, 4
"""Scores catch up in passes of about CATCH_UP_ROWS rows, or of a quarter of all rows when those are more. Larger passes
would keep drafts waiting; smaller ones would mostly pay for calling operators."""


def score(
    network: DraftNetwork[S, B], sessions: Sequence[S], observations: Sequence[Observation]
) -> Generator[None, None, list[Scores]]:
    """Score one observation per session; yield between passes. The sessions stand in the order of `Owner.index`."""
    for part in in_parts(sessions, network.num_behind):
        network.catch_up(part)
        yield
    columns: dict[int, tuple[S, ScoreColumns]] = {}
    walks: dict[int, tuple[S, CursorScores]] = {}
    for index, (session, observation) in enumerate(zip(sessions, observations, strict=True)):
        spec = session.text.spec
        if spec.draft_form.kind == "tree":
            depth = max(spec.max_draft_tokens, 1)
            walks[index] = session, CursorScores(session.cursor, observation, spec.sampling.method, depth)
        else:
            columns[index] = session, network.score_columns(session, observation)
    _add_first(network, list(columns.values()))
    yield from network.add_deeper([pair for pair in columns.values() if pair[1].is_by_start])
    _walk(network, list(walks.values()))
    for session, observation in zip(sessions, observations, strict=True):
        session.scored_until = max(session.scored_until, observation.start + len(observation.token_ids))
        session.wanted_from = session.text.num_emitted
    done = columns | walks
    return [done[index][1].finished() for index in range(len(sessions))]


def score_prompts(
    network: DraftNetwork[S, B], asked: Sequence[tuple[S, PromptScoreRequest]]
) -> list[NDArray[np.float32]]:
    """Score the ends of prompts, see `protocols.Drafter.score_prompt`, behind texts that the network has caught up with."""
    ends = [(session.text.num_prompt, request.prompt_top.num_rows) for session, request in asked]
    spans = [(session, max(end - num, 1), end) for (session, _), (end, num) in zip(asked, ends, strict=True)]
    found = network.logits_at(spans)
    scores = [_prompt_scores(*pair, *at) for pair, at in zip(asked, found, strict=True)]
    for session, _ in asked:
        session.is_prompt_scored = True
    return scores


def in_parts(sessions: Sequence[S], num_rows: Callable[[S], int]) -> Iterator[list[S]]:
    """Divide the sessions, in order, into passes of at most so many rows; the rows of a session stay together."""
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


def _add_first(network: DraftNetwork[S, B], columns: Sequence[tuple[S, ScoreColumns]]) -> None:
    spans = []
    for session, own in columns:
        first = session.text.num_prompt + own.observation.start
        spans.append((session, first, first + len(own.observation.token_ids)))
    for (_, own), (_, first, _), (positions, logits) in zip(columns, spans, network.logits_at(spans), strict=True):
        own.add_first([position - first for position in positions], logits)


def _walk(network: DraftNetwork[S, B], walks: Sequence[tuple[S, CursorScores]]) -> None:
    """Let every session's cursor draft trees and follow the text through them until its observation ends."""
    for _, walk in walks:
        walk.walk()
    active = [(session, walk) for session, walk in walks if not walk.is_complete]
    while active:
        drafts = [(session, *_shadow_draft(session, walk)) for session, walk in active]
        grow(network, drafts)
        for (session, walk), (_, _, draft) in zip(active, drafts, strict=True):
            walk.cursor.enter(draft.finished(session.owner.drafter_id))
            walk.walk()
        active = [(session, walk) for session, walk in active if not walk.is_complete]


def _shadow_draft(session: S, walk: CursorScores) -> tuple[int, WideDraft]:
    text, at = session.text, walk.cursor.at
    start = DraftStart(text.spec, counts_before(text, at), at)
    realised = None if walk.needs_whole_trees else walk.realised
    return text.num_prompt + at, TreeDraft(start, text.spec.max_draft_tokens, realised=realised)


def _prompt_scores(
    session: S, request: PromptScoreRequest, positions: list[int], logits: Tensor
) -> NDArray[np.float32]:
    num_rows = request.prompt_top.num_rows
    first = session.text.num_prompt - num_rows
    probs = soft_distribution(session.owner.vocabulary.spread(logits), session.text.spec.sampling, None, None)
    has_logits = np.zeros(num_rows, bool)
    has_logits[np.asarray(positions, np.int64) - first] = True

    def draft_probs(rows: NDArray[np.int64], ids: NDArray[np.int32]) -> NDArray[np.float64]:
        values: NDArray[np.float64] = probs[torch.from_numpy(rows), torch.from_numpy(ids)].double().cpu().numpy()
        return values

    return prompt_acceptance_probs(draft_probs, request.prompt_top, has_logits)
