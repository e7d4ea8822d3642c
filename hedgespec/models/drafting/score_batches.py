"""Which score requests run together: those of one session that follow each other are scored as one. NumPy only.

Long ones, of a session that was not scored for a while, are scored piece by piece: logits and attention scores of
thousands of tokens would not fit into memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hedgespec.learning.observations import first_part, joined, new_part
from hedgespec.types import Observation, ScoreRequest, Scores

MAX_TOKENS = 512
"""Tokens of one session that are scored at once."""


@dataclass(slots=True)
class Span:
    """Consecutive requests of one session: their observations, and their places in the batch."""

    session_id: str
    drafter_id: str
    parts: list[Observation]
    places: list[int]

    @property
    def observation(self) -> Observation:
        return joined(self.parts)

    def split(self, scores: Scores) -> list[tuple[int, Scores]]:
        """Every request's own part of the scores, with its place."""
        first, answers = 0, []
        for place, part in zip(self.places, self.parts, strict=True):
            end = first + len(part.token_ids)
            gammas = scores.acceptance_prob
            own = None if gammas is None or part.target_top is None else gammas[first:end]
            answers.append((place, Scores(part.start, scores.acceptance[first:end], own)))
            first = end
        return answers


def batches(requests: Sequence[ScoreRequest]) -> list[list[Span]]:
    """Batches to be scored one after the other, each with at most one span per session."""
    newest: dict[tuple[str, str], tuple[int, Span]] = {}
    rounds: list[list[Span]] = []
    for place, request in enumerate(requests):
        key = request.session_id, request.drafter_id
        for piece in _pieces(request.observation):
            batch, span = newest.get(key, (-1, None))
            if span is not None and _follows(span, piece):
                span.parts.append(piece)
                span.places.append(place)
                continue
            span = Span(*key, [piece], [place])
            newest[key] = batch + 1, span
            if batch + 1 == len(rounds):
                rounds.append([])
            rounds[batch + 1].append(span)
    return rounds


def joined_scores(parts: Sequence[Scores]) -> Scores:
    """The scores of the pieces of one request."""
    if len(parts) == 1:
        return parts[0]
    gammas = [part.acceptance_prob for part in parts if part.acceptance_prob is not None]
    acceptance = np.concatenate([part.acceptance for part in parts])
    return Scores(parts[0].start, acceptance, np.concatenate(gammas) if gammas else None)


def _pieces(observation: Observation) -> list[Observation]:
    num_tokens = len(observation.token_ids)
    if num_tokens <= MAX_TOKENS:
        return [observation]
    rest = new_part(observation, num_tokens - MAX_TOKENS)
    return [first_part(observation, MAX_TOKENS), *_pieces(rest)]


def _follows(span: Span, observation: Observation) -> bool:
    """Whether both can be scored as one; with the target's top ids in one of them alone they cannot."""
    before = span.parts[-1]
    num_tokens = before.start + len(before.token_ids) - span.parts[0].start
    return (
        before.start + len(before.token_ids) == observation.start
        and num_tokens + len(observation.token_ids) <= MAX_TOKENS
        and (before.target_top is None) == (observation.target_top is None)
    )
