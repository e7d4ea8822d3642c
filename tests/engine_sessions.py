"""Specs, observations and small drivers for tests of engines; the drafts come from wherever a test wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hedgespec.models.drafter_model import DrafterModel
from hedgespec.protocols import Target
from hedgespec.types import (
    EMPTY_DRAFT,
    DraftTree,
    FeatureBlock,
    Observation,
    SamplingParams,
    ScoreRequest,
    Scores,
    SessionSpec,
    Verdict,
)
from tests.model_folders import VOCAB_SIZE

GREEDY = SamplingParams(temperature=0.0, max_tokens=64)


def random_ids(num_tokens: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, VOCAB_SIZE, num_tokens).astype(np.int32)


def scores_of(drafter: DrafterModel, requests: Sequence[ScoreRequest]) -> list[Scores]:
    """All passes at once."""
    passes = drafter.score_passes(requests)
    while True:
        try:
            next(passes)
        except StopIteration as end:
            scores: list[Scores] = end.value
            return scores


def make_spec(
    prompt_ids: np.ndarray,
    session_id: str = "a",
    sampling: SamplingParams = GREEDY,
    max_draft_tokens: int = 8,
    **changes: object,
) -> SessionSpec:
    fields = {"emitted_ids": np.zeros(0, np.int32), "noise_seed": 7, **changes}
    return SessionSpec(
        session_id=session_id, prompt_ids=prompt_ids, sampling=sampling, max_draft_tokens=max_draft_tokens, **fields
    )


def observation_of(verdict: Verdict, start: int, wants_scores: bool = True) -> Observation:
    return Observation(start, verdict.token_ids, verdict.target_probs, verdict.target_top, wants_scores)


Draft = Callable[[list[int]], DraftTree]


async def decode(
    target: Target, spec: SessionSpec, num_tokens: int, draft: Draft = lambda ids: EMPTY_DRAFT
) -> list[int]:
    """Ids that a target emits for a session, at least num_tokens cut to it; `draft` sees all ids so far."""
    await target.open(spec)
    ids = [*spec.prompt_ids.tolist(), *spec.emitted_ids.tolist()]
    first, end = len(ids), len(ids) + num_tokens
    round_index = 0
    while len(ids) < end:
        verdict = await target.verify(spec.session_id, round_index, draft(ids))
        ids += verdict.token_ids.tolist()
        round_index += 1
    await target.close(spec.session_id)
    return ids[first:end]


class RecordingSink:
    """A feature sink that keeps rows by position."""

    def __init__(self) -> None:
        self.blocks: list[FeatureBlock] = []

    def push(self, block: FeatureBlock) -> None:
        self.blocks.append(block)

    def rows(self, session_id: str) -> dict[int, np.ndarray]:
        return {
            block.start_position + offset: row
            for block in self.blocks
            if block.session_id == session_id
            for offset, row in enumerate(block.rows)
        }
