"""Drafts and scores of every kind of drafter keep the same rules in every form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hedgespec.learning.estimators import RoundsCursor, advance
from hedgespec.types import CHAIN, DraftForm, DraftTree, Observation, SamplingParams, Scores, SessionSpec, SparseRows
from tests.drafter_kinds import KINDS, AnyDrafter, makers

DEPTH = 4
GREEDY, COUPLED, SAMPLED = SamplingParams(temperature=0.0), SamplingParams(seed=3), SamplingParams(temperature=0.7)
PENALISED = SamplingParams(temperature=0.0, frequency_penalty=0.4, presence_penalty=0.2)
TREE, IID, DISTINCT = DraftForm("tree", 3), DraftForm("iid", 3), DraftForm("distinct", 3)

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def fresh_of_kind(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Callable[[], AnyDrafter]]:
    return makers(Path(tmp_path_factory.mktemp("kinds")))


@pytest.fixture(params=KINDS)
def fresh(
    request: pytest.FixtureRequest, fresh_of_kind: dict[str, Callable[[], AnyDrafter]]
) -> Callable[[], AnyDrafter]:
    return fresh_of_kind[request.param]


def make_spec(
    form: DraftForm, sampling: SamplingParams = GREEDY, emitted: list[int] | None = None, **changes: object
) -> SessionSpec:
    prompt = np.random.default_rng(4).integers(0, 4, 20).astype(np.int32)  # of few ids: suffixes repeat
    ids = np.array(emitted or [], np.int32)
    fields = {"session_id": "s", "noise_seed": 11, "max_draft_tokens": DEPTH, "score_depth": "exact", **changes}
    return SessionSpec(prompt_ids=prompt, emitted_ids=ids, sampling=sampling, draft_form=form, **fields)


def observation(tokens: list[int], start: int, score_from: int | None = None, wants_scores: bool = True) -> Observation:
    ids = np.array(tokens, np.int32)
    return Observation(start, ids, np.full(len(ids), 0.3, np.float32), None, wants_scores, score_from)


def path_of(tree: DraftTree, node: int) -> list[int]:
    path: list[int] = []
    while node != -1:
        path.insert(0, int(tree.token_ids[node]))
        node = int(tree.parent[node])
    return path


def shape(tree: DraftTree) -> tuple[list[int], list[int]]:
    return tree.token_ids.tolist(), tree.parent.tolist()


def num_accepted(tree: DraftTree, realised: list[int]) -> int:
    """Return how many of the realised tokens can be followed from the root."""
    paths = {tuple(path_of(tree, node)) for node in range(tree.num_nodes)}
    length = 0
    while length < len(realised) and tuple(realised[: length + 1]) in paths:
        length += 1
    return length


async def own_text(fresh: Callable[[], AnyDrafter], spec: SessionSpec, num_tokens: int, seed: int) -> list[list[int]]:
    """Return the rounds of a text that follows a random path of the drafter's own proposals for a while, then takes a
    token of its own."""
    rng, drafter = np.random.default_rng(seed), fresh()
    await drafter.open(spec)
    rounds: list[list[int]] = []
    while sum(len(tokens) for tokens in rounds) < num_tokens:
        tree = (await drafter.draft(["s"], DEPTH))[0]
        path = path_of(tree, int(rng.integers(tree.num_nodes))) if tree.num_nodes and rng.random() < 0.8 else []
        tokens = [*path, int(rng.integers(4))]
        await drafter.observe("s", observation(tokens, sum(len(t) for t in rounds), wants_scores=False))
        rounds.append(tokens)
    return rounds


@pytest.mark.parametrize(
    "sampling", [GREEDY, COUPLED, SAMPLED, PENALISED], ids=["greedy", "coupled", "sampled", "penalised"]
)
@pytest.mark.parametrize("form", [CHAIN, TREE, IID, DISTINCT], ids=lambda form: form.kind)
async def test_every_draft_is_valid(fresh: Callable[[], AnyDrafter], form: DraftForm, sampling: SamplingParams) -> None:
    """Parents come before children, budgets are kept, siblings of a tree differ, and distributions travel exactly for
    samples."""
    drafter = fresh()
    await drafter.open(make_spec(form, sampling))
    for num_tokens, num_nodes in ((DEPTH, 0), (DEPTH, 5), (2, 3), (1, 1), (0, 0), (9, 100)):
        tree = (await drafter.draft(["s"], num_tokens, num_nodes))[0]
        budget = num_nodes or min(num_tokens, DEPTH) * form.branching
        assert tree.num_nodes <= min(budget, min(num_tokens, DEPTH) * form.branching if form.kind != "tree" else budget)
        assert (tree.num_nodes > 0) == (num_tokens > 0)
        assert (tree.parent < np.arange(tree.num_nodes)).all()
        assert all(len(path_of(tree, node)) <= min(num_tokens, DEPTH) for node in range(tree.num_nodes))
        assert ((tree.token_ids >= 0) & (tree.token_ids < drafter.vocab_size)).all()
        if form.kind != "iid":
            edges = list(zip(tree.parent.tolist(), tree.token_ids.tolist(), strict=True))
            assert len(set(edges)) == len(edges)
        is_sampled = sampling.method == "rejection" and form.kind != "tree"
        assert (tree.draft_probs is not None) == is_sampled
        if tree.draft_probs is not None:
            assert tree.draft_probs.num_rows == tree.num_nodes
            for node, token in enumerate(tree.token_ids.tolist()):
                ids, probs = tree.draft_probs.row(node)
                assert probs[ids == token].sum() > 0
                assert probs.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("sampling", [GREEDY, COUPLED, PENALISED], ids=["greedy", "coupled", "penalised"])
@pytest.mark.parametrize("kind", ["tree", "iid", "distinct"])
async def test_one_branch_is_the_chain(fresh: Callable[[], AnyDrafter], kind: str, sampling: SamplingParams) -> None:
    narrow, chain = fresh(), fresh()
    await narrow.open(make_spec(DraftForm(kind, 1), sampling))
    await chain.open(make_spec(CHAIN, sampling))
    expected = (await chain.draft(["s"], DEPTH))[0]
    assert shape((await narrow.draft(["s"], DEPTH))[0]) == shape(expected)
    assert expected.is_chain


@pytest.mark.parametrize("kind", ["iid", "distinct"])
async def test_the_first_chain_of_a_multi_draft_is_the_single_chain(fresh: Callable[[], AnyDrafter], kind: str) -> None:
    """The noise of chain 0 is that of a chain, so that a session's form does not change what it draws first."""
    several, chain = fresh(), fresh()
    await several.open(make_spec(DraftForm(kind, 3), SAMPLED))
    await chain.open(make_spec(CHAIN, SAMPLED))
    tree, expected = (await several.draft(["s"], DEPTH))[0], (await chain.draft(["s"], DEPTH))[0]
    assert tree.token_ids[:DEPTH].tolist() == expected.token_ids.tolist()
    assert tree.parent[:DEPTH].tolist() == [-1, 0, 1, 2]
    assert tree.draft_probs is not None
    assert expected.draft_probs is not None
    for row in range(DEPTH):
        np.testing.assert_allclose(tree.draft_probs.row(row)[1], expected.draft_probs.row(row)[1], atol=1e-5)


async def test_later_first_tokens_of_a_distinct_draft_come_from_what_is_left(fresh: Callable[[], AnyDrafter]) -> None:
    drafter = fresh()
    await drafter.open(make_spec(DISTINCT, SAMPLED))
    tree = (await drafter.draft(["s"], DEPTH))[0]
    assert tree.draft_probs is not None
    firsts = np.flatnonzero(tree.parent == -1)
    drawn: list[int] = []
    for node in firsts.tolist():
        ids, _ = tree.draft_probs.row(node)
        assert not set(drawn) & set(ids.tolist())
        drawn.append(int(tree.token_ids[node]))
    assert len(set(drawn)) == len(firsts) >= 1


async def test_sessions_of_all_forms_drafted_together_equal_each_alone(fresh: Callable[[], AnyDrafter]) -> None:
    cases = [(f, s) for f in (CHAIN, TREE, IID, DISTINCT) for s in (GREEDY, SAMPLED)]
    together, alone = fresh(), fresh()
    for number, (form, sampling) in enumerate(cases):
        for drafter in (together, alone):
            await drafter.open(make_spec(form, sampling, [1, 2, 0][: number % 4], session_id=f"s{number}"))
    names = [f"s{number}" for number in range(len(cases))]
    trees = await together.draft(names, DEPTH, 7)
    for name, tree in zip(names, trees, strict=True):
        assert shape(tree) == shape((await alone.draft([name], DEPTH, 7))[0])


@pytest.mark.parametrize("sampling", [GREEDY, COUPLED, PENALISED], ids=["greedy", "coupled", "penalised"])
@pytest.mark.parametrize("form", [CHAIN, TREE, DISTINCT], ids=lambda form: form.kind)
async def test_whatever_was_asked_before_a_draft_equals_a_fresh_drafters(
    fresh: Callable[[], AnyDrafter], form: DraftForm, sampling: SamplingParams
) -> None:
    """Drafts, scores of any range and prompt scores leave nothing behind in the KV memory."""
    spec = make_spec(form, sampling, num_prompt_scores=5)
    drafter, rng, emitted = fresh(), np.random.default_rng(6), list[int]()
    await drafter.open(spec)
    top = SparseRows(np.arange(6, dtype=np.int32), np.arange(5, dtype=np.int32), np.full(5, 0.5, np.float32))
    unscored = 0
    for number, tokens in enumerate(await own_text(fresh, spec, 24, seed=2)):
        if rng.random() < 0.7:
            other = fresh()
            await other.open(replace(spec, emitted_ids=np.array(emitted, np.int32)))
            assert shape((await drafter.draft(["s"], DEPTH))[0]) == shape((await other.draft(["s"], DEPTH))[0])
        if number == 2:
            await drafter.score_prompt("s", top)
        wants_scores = bool(rng.random() < 0.5)
        await drafter.observe("s", observation(tokens, len(emitted), unscored, wants_scores))
        emitted += tokens
        unscored = len(emitted) if wants_scores else unscored


@pytest.mark.parametrize(
    "sampling", [GREEDY, COUPLED, SAMPLED, PENALISED], ids=["greedy", "coupled", "sampled", "penalised"]
)
async def test_the_sum_of_u_of_a_tree_is_the_number_of_its_own_rounds(
    fresh: Callable[[], AnyDrafter], sampling: SamplingParams
) -> None:
    """The shadow cursor passes over the text as the drafter would have alone: a tree is a function of the text."""
    spec = make_spec(TREE, sampling)
    rounds = await own_text(fresh, spec, 40, seed=3)
    text = [token for tokens in rounds for token in tokens]
    scorer, alone = fresh(), fresh()
    await scorer.open(spec)
    await alone.open(spec)
    scores: list[Scores] = []
    start = 0
    for tokens in rounds:
        found = await scorer.observe("s", observation(tokens, start))
        assert found is not None
        scores.append(found)
        start += len(tokens)
    passes, done = 0, 0
    while done < len(text):
        length = num_accepted((await alone.draft(["s"], DEPTH))[0], text[done:])
        await alone.observe("s", observation(text[done : done + length + 1], done, wants_scores=False))
        passes, done = passes + 1, done + length + 1
    assert total_u(scores) == passes
    assert passes < len(text)


def total_u(scores: list[Scores]) -> float:
    """Sum of u over the positions scored."""
    acceptance = np.concatenate([s.acceptance for s in scores])[None].astype(np.float64)
    acceptance = np.broadcast_to(acceptance, (1, acceptance.shape[1], DEPTH))
    return float(advance(RoundsCursor.start(1, DEPTH), acceptance)[1][:-1].sum())


@pytest.mark.parametrize("form", [CHAIN, TREE, IID, DISTINCT], ids=lambda form: form.kind)
@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
async def test_tokens_observed_without_scores_are_scored_later_in_one_pass(
    fresh: Callable[[], AnyDrafter], form: DraftForm, sampling: SamplingParams
) -> None:
    """score_from makes up for every observation that wanted no scores, whatever was drafted in between."""
    spec = make_spec(form, sampling)
    rounds = await own_text(fresh, make_spec(form, GREEDY), 30, seed=8)
    at_once, later = fresh(), fresh()
    for drafter in (at_once, later):
        await drafter.open(spec)
    expected: list[Scores] = []
    found: list[Scores] = []
    start, unscored = 0, 0
    for number, tokens in enumerate(rounds):
        own = await at_once.observe("s", observation(tokens, start))
        assert own is not None
        expected.append(own)
        wants_scores = number % 3 == 2
        if number % 2:
            await later.draft(["s"], DEPTH)
        answer = await later.observe("s", observation(tokens, start, unscored, wants_scores))
        start += len(tokens)
        assert (answer is not None) == wants_scores
        if answer is not None:
            assert answer.start == unscored
            found.append(answer)
            unscored = start
    scored = np.concatenate([s.acceptance for s in found])
    np.testing.assert_allclose(scored, np.concatenate([s.acceptance for s in expected])[: len(scored)], atol=1e-5)
    assert len(scored) > 10


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED, COUPLED], ids=["greedy", "sampled", "coupled"])
async def test_prompt_scores_are_overlaps_and_do_not_depend_on_what_was_done_before(
    fresh: Callable[[], AnyDrafter], sampling: SamplingParams
) -> None:
    """With p = 1 for every id the overlap is all of the drafter's mass; with p small everywhere it is what of it is left;
    both are the same before the first draft and after some rounds."""
    num_rows = 6
    spec = make_spec(TREE, sampling, num_prompt_scores=num_rows)
    vocab_size = fresh().vocab_size
    offsets = np.arange(num_rows + 1, dtype=np.int32) * vocab_size
    ids = np.tile(np.arange(vocab_size, dtype=np.int32), num_rows)
    for prob in (1.0, 0.02):
        top = SparseRows(offsets, ids, np.full(len(ids), prob, np.float32))
        early, late = fresh(), fresh()
        for drafter in (early, late):
            await drafter.open(spec)
        await late.draft(["s"], DEPTH)
        await late.observe("s", observation([1, 2, 3], 0))
        await late.draft(["s"], DEPTH)
        overlap = await early.score_prompt("s", top)
        np.testing.assert_allclose(await late.score_prompt("s", top), overlap, atol=1e-5)
        assert (overlap > 0).sum() >= num_rows - 1
        if prob == 1.0:
            np.testing.assert_allclose(overlap[overlap > 0], 1.0, atol=1e-5)
        else:
            assert (overlap < 0.99).all()
            assert (overlap[overlap > 0] >= prob - 1e-6).all()
