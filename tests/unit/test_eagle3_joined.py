"""Heads that compute together draft and score what each of them does alone, bit for bit or within rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hedgespec.config import DrafterConfig
from hedgespec.models.eagle3.drafter import Eagle3Drafter
from hedgespec.models.eagle3.loading import load_eagle3_drafters
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
from tests.model_folders import HIDDEN_SIZE, VOCAB_SIZE, make_eagle3

NUM_HEADS, NUM_PROMPT, NUM_TOKENS, LENGTH = 3, 12, 40, 4
CASES = {
    "greedy": (GREEDY, {"score_depth": "exact"}),
    "path": (GREEDY, {"score_depth": "own_rounds"}),
    "coupled": (SamplingParams(temperature=0.3, seed=5), {"score_depth": "own_rounds"}),
    "rejection": (SamplingParams(temperature=1.0), {"score_depth": "exact", "num_target_top": 4}),
    "penalties": (SamplingParams(temperature=0.7, repetition_penalty=1.3), {"score_depth": "exact"}),
    "depth1": (GREEDY, {"score_depth": "depth1"}),
    "tree": (GREEDY, {"score_depth": "exact", "draft_form": DraftForm("tree", 2)}),
    "iid": (SamplingParams(temperature=1.0), {"score_depth": "exact", "draft_form": DraftForm("iid", 2)}),
}


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> list[DrafterConfig]:
    folders = [make_eagle3(tmp_path_factory.mktemp("head"), seed=seed) for seed in range(NUM_HEADS)]
    made = enumerate(map(str, folders))
    return [DrafterConfig(id=f"h{i}", kind="eagle3", model=folder, quantization="none") for i, folder in made]


@pytest.fixture(scope="module")
def embedding() -> torch.Tensor:
    return torch.randn((VOCAB_SIZE, HIDDEN_SIZE), generator=torch.Generator().manual_seed(1))


def apart(configs: list[DrafterConfig], embedding: torch.Tensor) -> dict[str, Eagle3Drafter]:
    return {c.id: load_eagle3_drafters([c], embedding, HIDDEN_SIZE)[c.id] for c in configs}


class Play:
    """Sessions a and b of every head: told different amounts, drafted by some, asked for different spans."""

    def __init__(self, drafters: dict[str, Eagle3Drafter], case: str) -> None:
        self.drafters = drafters
        self.sampling, self.changes = CASES[case]
        rng = np.random.default_rng(4)
        self.texts = {s: random_ids(NUM_PROMPT + NUM_TOKENS, seed) for seed, s in enumerate("ab")}
        self.features = {s: rng.normal(size=(NUM_PROMPT + NUM_TOKENS, 3 * HIDDEN_SIZE)) for s in "ab"}
        self.probs = rng.uniform(0.1, 0.9, NUM_TOKENS).astype(np.float32)

    def open(self) -> None:
        for drafter in self.drafters.values():
            for session, ids in self.texts.items():
                spec = make_spec(ids[:NUM_PROMPT], session, self.sampling, max_draft_tokens=LENGTH, **self.changes)
                drafter.open(spec)
                self.push(drafter, session, 0, NUM_PROMPT - 1)

    def push(self, drafter: Eagle3Drafter, session: str, start: int, end: int) -> None:
        drafter.push(FeatureBlock(session, start, self.features[session][start:end].astype(np.float32)))

    def tell(self, drafter_id: str, session: str, start: int, end: int) -> Observation:
        drafter, first, last = self.drafters[drafter_id], NUM_PROMPT + start, NUM_PROMPT + end
        self.push(drafter, session, first - 1, last - 1)
        top = None
        if self.changes.get("num_target_top"):
            ids = np.tile(np.arange(4, dtype=np.int32), end - start)
            top = SparseRows(np.arange(0, 4 * (end - start) + 1, 4, dtype=np.int32), ids, np.full(len(ids), 0.1, "f"))
        told = Observation(start, self.texts[session][first:last], self.probs[start:end], top, score_from=start)
        return drafter.observe(session, told)


def draft(play: Play, asked: list[DraftRequest], *, together: bool) -> list[DraftTree]:
    if together:
        return play.drafters["h0"].draft(asked)
    return [play.drafters[request.drafter_id].draft([request])[0] for request in asked]


def score(play: Play, asked: list[ScoreRequest], *, together: bool) -> list[Scores]:
    if together:
        return scores_of(play.drafters["h0"], asked)
    return [scores_of(play.drafters[request.drafter_id], [request])[0] for request in asked]


@pytest.mark.parametrize("case", CASES)
def test_drafts_and_scores_are_those_of_each_head_alone(
    configs: list[DrafterConfig], embedding: torch.Tensor, case: str
) -> None:
    results = []
    for together in (False, True):
        drafters = load_eagle3_drafters(configs, embedding, HIDDEN_SIZE) if together else apart(configs, embedding)
        assert all(drafter.batched_by == ("h0" if together else own) for own, drafter in drafters.items())
        play = Play(drafters, case)
        play.open()
        nodes = 6 if "draft_form" in play.changes else 0
        first = [DraftRequest(s, 0, LENGTH, nodes, drafter_id=h) for h, s in (("h2", "a"), ("h0", "b"), ("h1", "a"))]
        trees = draft(play, first, together=together)
        asked = [
            ScoreRequest(session, play.tell(drafter_id, session, 0, end), drafter_id)
            for drafter_id, session, end in (("h2", "b", 9), ("h1", "a", 5), ("h0", "a", 14), ("h2", "a", 1))
        ]
        scores = score(play, asked, together=together)
        asked = [
            ScoreRequest("a", play.tell("h1", "a", 5, 17), "h1"),
            ScoreRequest("a", play.tell("h0", "a", 14, 15), "h0"),
            ScoreRequest("b", play.tell("h0", "b", 0, 20), "h0"),
        ]
        scores += score(play, asked, together=together)
        second = [DraftRequest(s, 1, LENGTH, nodes, drafter_id=h) for h, s in (("h0", "b"), ("h1", "a"), ("h0", "a"))]
        trees += draft(play, second, together=together)
        results.append((trees, scores))
    (trees, scores), (joint_trees, joint_scores) = results
    for tree, joint in zip(trees, joint_trees, strict=True):
        np.testing.assert_array_equal(tree.token_ids, joint.token_ids)
        assert tree.drafter_id == joint.drafter_id
        assert len(tree.token_ids) >= LENGTH
    for own, joint_own in zip(scores, joint_scores, strict=True):
        np.testing.assert_allclose(own.acceptance, joint_own.acceptance, atol=1e-4)
        if own.acceptance_prob is not None:
            np.testing.assert_allclose(own.acceptance_prob, joint_own.acceptance_prob, atol=1e-4)


def test_prompts_are_scored_together(configs: list[DrafterConfig], embedding: torch.Tensor) -> None:
    found = []
    for together in (False, True):
        drafters = load_eagle3_drafters(configs, embedding, HIDDEN_SIZE) if together else apart(configs, embedding)
        play = Play(drafters, "rejection")
        play.changes = {**play.changes, "num_prompt_scores": 6}
        play.open()
        top = SparseRows(
            np.arange(0, 25, 4, dtype=np.int32), np.tile(np.arange(4), 6).astype("i"), np.full(24, 0.2, "f")
        )
        asked = [PromptScoreRequest(session, top, h) for h, session in (("h1", "b"), ("h0", "a"), ("h2", "b"))]
        if together:
            found.append(drafters["h0"].score_prompt(asked))
        else:
            found.append([drafters[request.drafter_id].score_prompt([request])[0] for request in asked])
    for alone, joint in zip(*found, strict=True):
        np.testing.assert_allclose(alone, joint, atol=1e-5)


def test_heads_of_other_shapes_compute_apart(
    configs: list[DrafterConfig], embedding: torch.Tensor, tmp_path: Path
) -> None:
    other = configs[0].model_copy(update={"id": "small", "model": str(make_eagle3(tmp_path, draft_vocab_size=32))})
    drafters = load_eagle3_drafters([*configs, other], embedding, HIDDEN_SIZE)
    assert {d.drafter_id: d.batched_by for d in drafters.values()} == {
        "h0": "h0",
        "h1": "h0",
        "h2": "h0",
        "small": "small",
    }
