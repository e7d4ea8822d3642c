"""Which score requests run together: requests of one session that follow each other are scored as one. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hedgespec.models.drafter_model import ScoreRequest
from hedgespec.models.unscored import joined
from hedgespec.types import Observation, Scores, SparseRows


@dataclass(slots=True)
class Span:
    """Consecutive requests of one session: their observations, and their places in the batch."""

    session_id: str
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
    newest: dict[str, tuple[int, Span]] = {}
    rounds: list[list[Span]] = []
    for place, request in enumerate(requests):
        observation = request.observation
        batch, span = newest.get(request.session_id, (-1, None))
        if span is not None and _follows(span.parts[-1], observation):
            span.parts.append(observation)
            span.places.append(place)
            continue
        span = Span(request.session_id, [observation], [place])
        newest[request.session_id] = batch + 1, span
        if batch + 1 == len(rounds):
            rounds.append([])
        rounds[batch + 1].append(span)
    return rounds


def _follows(before: Observation, observation: Observation) -> bool:
    """Whether both can be scored as one; with the target's top ids in one of them alone they cannot."""
    end = before.start + len(before.token_ids)
    return end == observation.start and _has_top(before.target_top) == _has_top(observation.target_top)


def _has_top(top: SparseRows | None) -> bool:
    return top is not None
