"""Every kind of drafter behind one face, on tiny random models, for tests that hold for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from hedgespec.models.drafter_model import DrafterModel
from hedgespec.models.tabular import TabularDrafter, TabularModel
from hedgespec.types import (
    DraftRequest,
    DraftTree,
    FeatureBlock,
    Observation,
    PromptScoreRequest,
    ScoreRequest,
    Scores,
    SessionSpec,
    SparseRows,
)
from tests.engine_sessions import scores_of
from tests.model_folders import HIDDEN_SIZE, VOCAB_SIZE, make_eagle3, make_llama

KINDS = ("tabular", "ngram", "causal_lm", "eagle3")
TABLE = TabularModel(vocab_size=8, order=2, seed=5)


class AnyDrafter(Protocol):
    vocab_size: int

    async def open(self, spec: SessionSpec) -> None: ...

    async def draft(self, session_ids: Sequence[str], num_draft_tokens: int, num_nodes: int = 0) -> list[DraftTree]: ...

    async def observe(self, session_id: str, observation: Observation) -> Scores | None: ...

    async def score_prompt(self, session_id: str, prompt_top: SparseRows) -> np.ndarray: ...


class TableBehindIt:
    vocab_size = TABLE.vocab_size

    def __init__(self) -> None:
        self._drafter = TabularDrafter("d", TABLE.related(0.7, 1), depth_decay=0.9)

    async def open(self, spec: SessionSpec) -> None:
        await self._drafter.open(spec)

    async def draft(self, session_ids: Sequence[str], num_draft_tokens: int, num_nodes: int = 0) -> list[DraftTree]:
        return [await self._drafter.draft(DraftRequest(s, 0, num_draft_tokens, num_nodes)) for s in session_ids]

    async def observe(self, session_id: str, observation: Observation) -> Scores | None:
        return await self._drafter.observe(session_id, 0, observation)

    async def score_prompt(self, session_id: str, prompt_top: SparseRows) -> np.ndarray:
        return await self._drafter.score_prompt(session_id, prompt_top)


class ModelBehindIt:
    """Features are random but the same for every drafter: a function of session and position."""

    def __init__(self, model: DrafterModel, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.model = model
        self._num_tokens: dict[str, int] = {}

    async def open(self, spec: SessionSpec) -> None:
        self.model.open(spec)
        self._num_tokens[spec.session_id] = 1
        self._push(spec.session_id, spec.num_tokens - 1)

    async def draft(self, session_ids: Sequence[str], num_draft_tokens: int, num_nodes: int = 0) -> list[DraftTree]:
        return self.model.draft([DraftRequest(s, 0, num_draft_tokens, num_nodes) for s in session_ids])

    async def observe(self, session_id: str, observation: Observation) -> Scores | None:
        self._push(session_id, len(observation.token_ids))
        own = self.model.observe(session_id, observation)
        return scores_of(self.model, [ScoreRequest(session_id, own)])[0] if observation.wants_scores else None

    async def score_prompt(self, session_id: str, prompt_top: SparseRows) -> np.ndarray:
        return self.model.score_prompt([PromptScoreRequest(session_id, prompt_top)])[0]

    def _push(self, session_id: str, num_tokens: int) -> None:
        first = self._num_tokens[session_id] - 1
        self._num_tokens[session_id] += num_tokens
        rows = [
            np.random.default_rng([len(session_id), p]).normal(size=3 * HIDDEN_SIZE)
            for p in range(first, first + num_tokens)
        ]
        self.model.push(FeatureBlock(session_id, first, np.array(rows, np.float32)))


def makers(root: Path) -> dict[str, Callable[[], AnyDrafter]]:
    """Kind -> a function that makes a fresh drafter of it, always with the same weights."""
    from hedgespec.models.causal_lm.folder import load_causal_lm
    from hedgespec.models.causal_lm.lm_drafter import lm_drafter
    from hedgespec.models.eagle3.head import load_eagle3
    from hedgespec.models.eagle3.head_drafters import head_drafter
    from hedgespec.models.lean.lean_heads import lean_bank
    from hedgespec.models.lean.lean_network import accelerate
    from hedgespec.models.ngram.ngram_drafter import NgramDrafter

    small = make_llama(root / "small", num_hidden_layers=2)
    lm = accelerate(load_causal_lm(small, "cpu", "drafter small"))
    embedding = torch.randn((VOCAB_SIZE, HIDDEN_SIZE), generator=torch.Generator().manual_seed(1))
    head = load_eagle3(make_eagle3(root / "head"), embedding)
    return {
        "tabular": TableBehindIt,
        "ngram": lambda: ModelBehindIt(NgramDrafter("d", 8192), 8),
        "causal_lm": lambda: ModelBehindIt(lm_drafter("d", lm, 8, 8192), VOCAB_SIZE),
        "eagle3": lambda: ModelBehindIt(head_drafter("d", lean_bank([head]), "digest", 8, 8192), VOCAB_SIZE),
    }
