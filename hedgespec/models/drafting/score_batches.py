"""Groups score requests into batches: consecutive ones of a session are scored as one, long ones piece by piece. NumPy only.

A session that was not scored for a while has a long one: logits and attention scores of thousands of tokens would not fit
into memory.
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
    """Consecutive observations of one session, which are scored as one. indices: the request that each of them is of."""

    session_id: str
    drafter_id: str
    parts: list[Observation]
    indices: list[int]

    @property
    def observation(self) -> Observation:
        return joined(self.parts)

    def split(self, scores: Scores) -> list[tuple[int, Scores]]:
        """Divide the span's scores: (index of a request, its own part)."""
        first, answers = 0, []
        for index, part in zip(self.indices, self.parts, strict=True):
            end = first + len(part.token_ids)
            probs = scores.acceptance_prob
            own = None if probs is None or part.target_top is None else probs[first:end]
            answers.append((index, Scores(part.start, scores.acceptance[first:end], own)))
            first = end
        return answers


def batches(requests: Sequence[ScoreRequest]) -> list[list[Span]]:
    """Return batches to be scored one after the other, each with at most one span per session."""
    newest: dict[tuple[str, str], tuple[int, Span]] = {}
    batched: list[list[Span]] = []
    for index, request in enumerate(requests):
        key = request.session_id, request.drafter_id
        for piece in _pieces(request.observation):
            batch, span = newest.get(key, (-1, None))
            if span is not None and _follows(span, piece):
                span.parts.append(piece)
                span.indices.append(index)
                continue
            span = Span(*key, [piece], [index])
            newest[key] = batch + 1, span
            if batch + 1 == len(batched):
                batched.append([])
            batched[batch + 1].append(span)
    return batched


def joined_scores(parts: Sequence[Scores]) -> Scores:
    """Join the scores of the pieces of one request."""
    if len(parts) == 1:
        return parts[0]
    probs = [part.acceptance_prob for part in parts if part.acceptance_prob is not None]
    acceptance = np.concatenate([part.acceptance for part in parts])
    return Scores(parts[0].start, acceptance, np.concatenate(probs) if probs else None)


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
