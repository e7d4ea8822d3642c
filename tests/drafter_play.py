"""A scripted play of several drafters with a network, for tests that compare two ways to compute the same.

It imports the plain path of `hedgespec.models` alone, so that it also runs where the doors are shut.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from hedgespec.models.drafter_model import DrafterModel
from hedgespec.types import (
    DraftForm,
    DraftRequest,
    DraftTree,
    FeatureBlock,
    Observation,
    PromptScoreRequest,
    SamplingParams,
    ScoreRequest,
    Scores,
    SparseRows,
)
from tests.engine_sessions import GREEDY, make_spec, random_ids, scores_of
from tests.model_folders import HIDDEN_SIZE

NUM_PROMPT, NUM_TOKENS, LENGTH, NUM_PROMPT_SCORES = 12, 40, 4, 6
CASES = {
    "greedy": (GREEDY, {"score_depth": "exact"}),
    "own_rounds": (GREEDY, {"score_depth": "own_rounds"}),
    "coupled": (SamplingParams(temperature=0.3, seed=5), {"score_depth": "own_rounds"}),
    "rejection": (SamplingParams(temperature=1.0), {"score_depth": "exact", "num_target_top": 4}),
    "penalties": (SamplingParams(temperature=0.7, repetition_penalty=1.3), {"score_depth": "exact"}),
    "depth1": (GREEDY, {"score_depth": "depth1"}),
    "tree": (GREEDY, {"score_depth": "exact", "draft_form": DraftForm("tree", 2)}),
    "iid": (SamplingParams(temperature=1.0), {"score_depth": "exact", "draft_form": DraftForm("iid", 2)}),
}

Request = TypeVar("Request", DraftRequest, ScoreRequest, PromptScoreRequest)
Results = tuple[list[DraftTree], list[Scores], list[np.ndarray]]


class Play:
    """Sessions a and b of every drafter: they observe different amounts, some draft, and different spans are scored.

    together: ask drafters that compute together in one call
    """

    def __init__(self, drafters: Mapping[str, DrafterModel], case: str, *, together: bool = True) -> None:
        self.drafters, self.together = drafters, together
        self.sampling, self.changes = CASES[case]
        self.changes = {"num_prompt_scores": NUM_PROMPT_SCORES, **self.changes}
        rng = np.random.default_rng(4)
        self.texts = {s: random_ids(NUM_PROMPT + NUM_TOKENS, seed) for seed, s in enumerate("ab")}
        self.features = {s: rng.normal(size=(NUM_PROMPT + NUM_TOKENS, 3 * HIDDEN_SIZE)) for s in "ab"}
        self.probs = rng.uniform(0.1, 0.9, NUM_TOKENS).astype(np.float32)

    def run(self) -> Results:
        """Play three roles, which several drafters share or one takes alone."""
        ids = list(self.drafters)
        x, y, z = (ids[i % len(ids)] for i in range(3))
        for drafter in self.drafters.values():
            for session, text in self.texts.items():
                spec = make_spec(text[:NUM_PROMPT], session, self.sampling, max_draft_tokens=LENGTH, **self.changes)
                drafter.open(spec)
                self.push(drafter, session, 0, NUM_PROMPT - 1)
        prompts = self.score_prompts([(y, "b"), (x, "a"), (z, "b")])
        trees = self.draft([(z, "a"), (x, "b")], 0) + self.draft([(y, "a")], 0)
        scores = self.score([(z, "b", 0, 9), (y, "a", 0, 5), (x, "a", 0, 14)])
        scores += self.score([(y, "a", 5, 17), (x, "a", 14, 15), (z, "b", 9, 20)])
        trees += self.draft([(x, "b"), (z, "a")], 1) + self.draft([(x, "a"), (z, "b")], 1)
        return trees, scores, prompts

    def push(self, drafter: DrafterModel, session: str, start: int, end: int) -> None:
        drafter.push(FeatureBlock(session, start, self.features[session][start:end].astype(np.float32)))

    def observe(self, drafter_id: str, session: str, start: int, end: int) -> Observation:
        drafter, first, last = self.drafters[drafter_id], NUM_PROMPT + start, NUM_PROMPT + end
        self.push(drafter, session, first - 1, last - 1)
        top = None
        if self.changes.get("num_target_top"):
            top = top_rows(end - start)
        observation = Observation(start, self.texts[session][first:last], self.probs[start:end], top, score_from=start)
        return drafter.observe(session, observation)

    def draft(self, asked: list[tuple[str, str]], round_index: int) -> list[DraftTree]:
        num_nodes = 6 if "draft_form" in self.changes else 0
        requests = [DraftRequest(session, round_index, LENGTH, num_nodes, drafter_id=d) for d, session in asked]
        found: list[DraftTree] = []
        for drafter, own in self.batches(requests):
            found += drafter.draft(own)
        return found

    def score(self, asked: list[tuple[str, str, int, int]]) -> list[Scores]:
        requests = [ScoreRequest(span[1], self.observe(*span), drafter_id=span[0]) for span in asked]
        found: list[Scores] = []
        for drafter, own in self.batches(requests):
            found += scores_of(drafter, own)
        return found

    def score_prompts(self, asked: list[tuple[str, str]]) -> list[np.ndarray]:
        top = top_rows(NUM_PROMPT_SCORES)
        found: list[np.ndarray] = []
        for drafter, own in self.batches([PromptScoreRequest(s, top, drafter_id=d) for d, s in asked]):
            found += drafter.score_prompt(own)
        return found

    def batches(self, requests: list[Request]) -> list[tuple[DrafterModel, list[Request]]]:
        leaders = {drafter.batched_by for drafter in self.drafters.values()}
        if self.together and len(leaders) == 1:
            return [(self.drafters[leaders.pop()], requests)]
        return [(self.drafters[request.drafter_id], [request]) for request in requests]


def top_rows(num_rows: int) -> SparseRows:
    ids = np.tile(np.arange(4, dtype=np.int32), num_rows)
    return SparseRows(np.arange(0, 4 * num_rows + 1, 4, dtype=np.int32), ids, np.full(len(ids), 0.1, np.float32))


def assert_same(found: Results, expected: Results) -> None:
    """The same tokens, and probabilities within the rounding of float32."""
    for tree, other in zip(found[0], expected[0], strict=True):
        np.testing.assert_array_equal(tree.token_ids, other.token_ids)
        np.testing.assert_array_equal(tree.parent, other.parent)
        assert tree.drafter_id == other.drafter_id
        assert len(tree.token_ids) >= LENGTH
        assert (tree.draft_probs is None) == (other.draft_probs is None)
        if tree.draft_probs is not None and other.draft_probs is not None:
            np.testing.assert_array_equal(tree.draft_probs.ids, other.draft_probs.ids)
            np.testing.assert_allclose(tree.draft_probs.probs, other.draft_probs.probs, rtol=1e-3, atol=1e-5)
    for own, others in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(own.acceptance, others.acceptance, atol=1e-4)
        assert (own.acceptance_prob is None) == (others.acceptance_prob is None)
        if own.acceptance_prob is not None and others.acceptance_prob is not None:
            np.testing.assert_allclose(own.acceptance_prob, others.acceptance_prob, atol=1e-4)
    for prompt, other_prompt in zip(found[2], expected[2], strict=True):
        np.testing.assert_allclose(prompt, other_prompt, atol=1e-4)
