"""Trees, multi-drafts and exact scores of an EAGLE-3 head against a naive dense evaluation along every path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hedgespec.learning.estimators import RoundsCursor, advance
from hedgespec.models.eagle3.exact_scores import MIN_SURVIVAL
from hedgespec.models.eagle3.head import Eagle3Head, load_eagle3
from hedgespec.models.eagle3.head_drafters import HeadDrafter, head_drafter
from hedgespec.models.lean.lean_heads import lean_bank
from hedgespec.sampling.processing import process_logits
from hedgespec.speculative.proposal import propose, truncate, without
from hedgespec.types import (
    DraftForm,
    DraftRequest,
    DraftTree,
    FeatureBlock,
    Observation,
    SamplingParams,
    ScoreRequest,
    SessionSpec,
)
from tests.eagle3_reference import DenseHead
from tests.engine_sessions import GREEDY, make_spec, random_ids, scores_of
from tests.model_folders import HIDDEN_SIZE, VOCAB_SIZE, make_eagle3

NUM_PROMPT, NUM_TOKENS, DEPTH = 10, 60, 4
SAMPLED, COUPLED = SamplingParams(temperature=1.0), SamplingParams(seed=5)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Eagle3Head:
    embedding = torch.randn((VOCAB_SIZE, HIDDEN_SIZE), generator=torch.Generator().manual_seed(1))
    return load_eagle3(make_eagle3(Path(tmp_path_factory.mktemp("head"))), embedding)


class Lesson:
    """A text with random features, of which stretches are what the head itself drafts there."""

    def __init__(self, head: Eagle3Head, seed: int, sampling: SamplingParams = GREEDY, **changes: object) -> None:
        rng = np.random.default_rng(seed)
        self.ids = random_ids(NUM_TOKENS, seed)
        self.features = rng.normal(size=(NUM_TOKENS, 3 * HIDDEN_SIZE)).astype(np.float32)
        for start in range(NUM_PROMPT, NUM_TOKENS - DEPTH, DEPTH + 2):
            dense = DenseHead(head, self.ids, self.features)
            self.ids[start : start + DEPTH] = dense.greedy_draft(start, DEPTH)
        self.target_probs = rng.uniform(0.02, 0.6, NUM_TOKENS).astype(np.float32)
        self.dense = DenseHead(head, self.ids, self.features)
        self.sampling = sampling
        self.changes = {"max_draft_tokens": DEPTH, "score_depth": "exact", **changes}

    def spec(self, num_emitted: int = 0, session_id: str = "a") -> SessionSpec:
        emitted = self.ids[NUM_PROMPT : NUM_PROMPT + num_emitted]
        prompt = self.ids[:NUM_PROMPT]
        return make_spec(prompt, session_id, self.sampling, emitted_ids=emitted, **self.changes)

    def open(self, drafter: HeadDrafter, num_emitted: int = 0, session_id: str = "a") -> None:
        drafter.open(self.spec(num_emitted, session_id))
        drafter.push(FeatureBlock(session_id, 0, self.features[: NUM_PROMPT + num_emitted - 1]))

    def observe(
        self, drafter: HeadDrafter, start: int, end: int, session_id: str = "a", **changes: object
    ) -> Observation:
        first, last = NUM_PROMPT + start, NUM_PROMPT + end
        drafter.push(FeatureBlock(session_id, first - 1, self.features[first - 1 : last - 1]))
        observation = Observation(start, self.ids[first:last], self.target_probs[first:last], **changes)
        return drafter.observe(session_id, observation)


def make_drafter(head: Eagle3Head) -> HeadDrafter:
    return head_drafter("d", lean_bank([head]), "digest", max_sessions=8, max_cached_tokens=4096)


def path_of(tree: DraftTree, node: int) -> list[int]:
    path: list[int] = []
    while node != -1:
        path.insert(0, int(tree.token_ids[node]))
        node = int(tree.parent[node])
    return path


def naive_tree(dense: DenseHead, start: int, branching: int, num_nodes: int) -> set[tuple[int, ...]]:
    nodes: dict[tuple[int, ...], float] = {}
    beams: dict[tuple[int, ...], float] = {(): 0.0}
    for _ in range(DEPTH):
        new = {}
        for path, score in beams.items():
            logs = dense.logits(start, list(path)).double().log_softmax(-1)
            best = logs.topk(branching)
            new |= {(*path, t): score + w for t, w in zip(best.indices.tolist(), best.values.tolist(), strict=True)}
        nodes |= new
        beams = dict(sorted(new.items(), key=lambda item: -item[1])[:branching])
    return set(sorted(nodes, key=lambda path: -nodes[path])[:num_nodes])


@pytest.mark.parametrize("num_emitted", [0, 7])
@pytest.mark.parametrize("num_nodes", [6, 12])
def test_a_tree_equals_the_dense_evaluation_of_every_path(head: Eagle3Head, num_emitted: int, num_nodes: int) -> None:
    lesson, drafter = Lesson(head, seed=2, draft_form=DraftForm("tree", 3)), make_drafter(head)
    lesson.open(drafter, num_emitted)
    tree = drafter.draft([DraftRequest("a", 0, DEPTH, num_nodes)])[0]
    paths = {tuple(path_of(tree, node)) for node in range(tree.num_nodes)}
    assert paths == naive_tree(lesson.dense, NUM_PROMPT + num_emitted, 3, num_nodes)
    assert max(len(path) for path in paths) > 1


@pytest.mark.parametrize("kind", ["iid", "distinct"])
def test_every_distribution_of_a_multi_draft_is_the_heads_after_that_path(head: Eagle3Head, kind: str) -> None:
    lesson, drafter = Lesson(head, seed=3, sampling=SAMPLED, draft_form=DraftForm(kind, 3)), make_drafter(head)  # type: ignore[arg-type]
    lesson.open(drafter, 5)
    tree = drafter.draft([DraftRequest("a", 4, DEPTH)])[0]
    assert tree.draft_probs is not None
    earlier: list[int] = []
    for node in range(tree.num_nodes):
        *before, token = path_of(tree, node)
        expected = truncate(process_logits(lesson.dense.logits(NUM_PROMPT + 5, before)[None], SAMPLED)).row(0)
        if not before and kind == "distinct":
            expected = without(expected, earlier)
            earlier.append(token)
        ids, probs = tree.draft_probs.row(node)
        assert set(ids.tolist()) == set(expected[0].tolist())
        np.testing.assert_allclose(probs, expected[1], atol=1e-4)
    assert len({tuple(path_of(tree, n)) for n in np.flatnonzero(tree.parent == -1).tolist()}) > 1


def dense_acceptance(lesson: Lesson, output_index: int, depth: int) -> float:
    start = output_index - depth + 1
    if start < 0:
        return 0.0
    first, position = NUM_PROMPT + start, NUM_PROMPT + output_index
    logits = lesson.dense.logits(first, lesson.ids[first:position].tolist())[None]
    ids, probs = truncate(process_logits(logits, lesson.sampling)).row(0)
    token = int(lesson.ids[position])
    if lesson.sampling.method == "rejection":
        return min(1.0, float(probs[ids == token].sum()) / float(lesson.target_probs[position]))
    return float(propose(ids, probs, lesson.sampling.method, 7, output_index, 0) == token)


@pytest.mark.parametrize("sampling", [GREEDY, COUPLED, SAMPLED], ids=["greedy", "coupled", "sampled"])
def test_leaving_out_ended_drafts_changes_no_sum_of_u(head: Eagle3Head, sampling: SamplingParams) -> None:
    """The sums equal those of every start unrolled to the end at temperature 0 and under `coupled`, and lie within
    MIN_SURVIVAL per pass under `rejection`."""
    for seed in range(3):
        lesson, drafter = Lesson(head, seed, sampling), make_drafter(head)
        lesson.open(drafter)
        num_tokens, done, rng = 30, 0, np.random.default_rng(seed)
        rows = []
        while done < num_tokens:
            end = min(num_tokens, done + int(rng.integers(1, DEPTH + 2)))
            own = lesson.observe(drafter, done, end)
            rows.append(scores_of(drafter, [ScoreRequest("a", own)])[0].acceptance)
            done = end
        whole = [[dense_acceptance(lesson, p, depth) for depth in range(1, DEPTH + 1)] for p in range(num_tokens)]
        u, expected = (
            advance(RoundsCursor.start(1, DEPTH), np.asarray(a, np.float64)[None])[1][:-1, 0]
            for a in (np.concatenate(rows), np.array(whole))
        )
        tolerance = 1e-4 if sampling is not SAMPLED else MIN_SURVIVAL * num_tokens
        np.testing.assert_allclose(u, expected, atol=1e-4 if sampling is not SAMPLED else 2 * MIN_SURVIVAL)
        assert abs(u.sum() - expected.sum()) <= tolerance
        if sampling is GREEDY:
            assert u.sum() < 0.8 * num_tokens, "the text follows the drafts for stretches"


def test_scores_of_several_sessions_and_of_pending_observations_equal_each_alone(head: Eagle3Head) -> None:
    """One call scores two sessions, one of them with two observations that follow each other."""
    forms = [DraftForm(), DraftForm("tree", 2)]
    lessons = [Lesson(head, seed, SAMPLED, draft_form=form) for seed, form in enumerate(forms)]
    together, alone = make_drafter(head), make_drafter(head)
    requests, expected = [], []
    for number, lesson in enumerate(lessons):
        for drafter in (together, alone):
            lesson.open(drafter, session_id=f"s{number}")
    for number, lesson in enumerate(lessons):
        for start, end in ((0, 3), (3, 9)):
            name = f"s{number}"
            requests.append(ScoreRequest(name, lesson.observe(together, start, end, name)))
            expected += scores_of(alone, [ScoreRequest(name, lesson.observe(alone, start, end, name))])
    for found, own in zip(scores_of(together, requests), expected, strict=True):
        assert found.start == own.start
        np.testing.assert_allclose(found.acceptance, own.acceptance, atol=1e-5)


def test_states_are_kept_until_they_are_scored_and_no_longer(head: Eagle3Head) -> None:
    lesson, drafter = Lesson(head, seed=4), make_drafter(head)
    lesson.open(drafter)
    for start in range(0, 30, 3):
        lesson.observe(drafter, start, start + 3, wants_scores=False)
        drafter.draft([DraftRequest("a", 0, DEPTH)])
    assert len(drafter._sessions["a"].states) >= 30
    own = lesson.observe(drafter, 30, 31, score_from=0)
    scores = scores_of(drafter, [ScoreRequest("a", own)])[0]
    assert (scores.start, len(scores.acceptance)) == (0, 31)
    drafter.draft([DraftRequest("a", 0, DEPTH)])
    assert len(drafter._sessions["a"].states) <= DEPTH + 3


def test_a_tree_cursor_goes_on_over_a_hole_in_the_features(head: Eagle3Head) -> None:
    """A head without a true state would have drafted nothing: no entry, and the next draft starts after the hole."""
    lesson, drafter = Lesson(head, seed=5, draft_form=DraftForm("tree", 2)), make_drafter(head)
    drafter.open(lesson.spec())
    drafter.push(FeatureBlock("a", 0, lesson.features[:NUM_PROMPT]))
    first = NUM_PROMPT + 5
    drafter.push(FeatureBlock("a", first, lesson.features[first : NUM_PROMPT + 19]))
    observation = Observation(0, lesson.ids[NUM_PROMPT : NUM_PROMPT + 20], lesson.target_probs[:20])
    acceptance = scores_of(drafter, [ScoreRequest("a", drafter.observe("a", observation))])[0].acceptance
    assert not acceptance[2:7, 0].any()
    assert acceptance[7:].any()
    assert set(acceptance.ravel().tolist()) <= {0.0, 1.0}
