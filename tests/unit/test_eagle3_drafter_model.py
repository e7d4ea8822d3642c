"""An EAGLE-3 drafter drafts and scores what a naive dense evaluation of its head says, whenever it is asked."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from hedgespec.config import DrafterConfig
from hedgespec.errors import ModelFolderError, ReplicaBusy, UnknownSession
from hedgespec.models.drafter_model import Usage
from hedgespec.models.eagle3.exact_scores import MIN_SURVIVAL
from hedgespec.models.eagle3.head import Eagle3Head, load_eagle3
from hedgespec.models.eagle3.head_drafters import HeadDrafter, head_drafter, load_eagle3_drafters
from hedgespec.models.eagle3.head_network import MAX_TAIL_HOLES
from hedgespec.models.lean.lean_heads import lean_bank
from hedgespec.sampling.processing import process_logits
from hedgespec.speculative.proposal import propose, truncate
from hedgespec.types import (
    DraftRequest,
    DraftTree,
    FeatureBlock,
    Observation,
    SamplingParams,
    ScoreRequest,
    Scores,
    SessionSpec,
    SparseRows,
)
from tests.eagle3_reference import DenseHead
from tests.engine_sessions import GREEDY, make_spec, random_ids, scores_of
from tests.model_folders import HIDDEN_SIZE, VOCAB_SIZE, make_eagle3

NUM_PROMPT = 14
NUM_TOKENS = 60
DEPTH = 5
WIDTH = 3 * HIDDEN_SIZE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_eagle3(tmp_path_factory.mktemp("head"))


@pytest.fixture(scope="module")
def embedding() -> torch.Tensor:
    return torch.randn((VOCAB_SIZE, HIDDEN_SIZE), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def head(folder: Path, embedding: torch.Tensor) -> Eagle3Head:
    return load_eagle3(folder, embedding)


@pytest.fixture
def drafter(head: Eagle3Head) -> HeadDrafter:
    return make_drafter(head)


def make_drafter(head: Eagle3Head, max_cached_tokens: int = 4096) -> HeadDrafter:
    return head_drafter("d", lean_bank([head]), "digest", max_sessions=8, max_cached_tokens=max_cached_tokens)


class Text:
    """A random text with random features: what the target would have verified."""

    def __init__(self, seed: int = 0, session_id: str = "a", sampling: SamplingParams = GREEDY) -> None:
        rng = np.random.default_rng(seed)
        self.ids = random_ids(NUM_TOKENS, seed)
        self.features = rng.normal(size=(NUM_TOKENS, WIDTH)).astype(np.float32)
        self.target_probs = rng.uniform(0.05, 0.9, NUM_TOKENS).astype(np.float32)
        self.session_id = session_id
        self.sampling = sampling

    def spec(self, num_emitted: int = 0, **changes: object) -> SessionSpec:
        emitted = self.ids[NUM_PROMPT : NUM_PROMPT + num_emitted]
        changes = {"max_draft_tokens": DEPTH, **changes}
        return make_spec(self.ids[:NUM_PROMPT], self.session_id, self.sampling, emitted_ids=emitted, **changes)

    def block(self, start: int, end: int) -> FeatureBlock:
        return FeatureBlock(self.session_id, start, self.features[start:end])

    def observation(self, start: int, end: int, wants_scores: bool = True) -> Observation:
        """start, end: output indices."""
        first, last = NUM_PROMPT + start, NUM_PROMPT + end
        return Observation(start, self.ids[first:last], self.target_probs[first:last], wants_scores=wants_scores)

    def open(self, drafter: HeadDrafter, num_emitted: int = 0, **changes: object) -> None:
        """Open a session that continues after num_emitted tokens, with the features a target would have sent."""
        drafter.open(self.spec(num_emitted, **changes))
        drafter.push(self.block(0, NUM_PROMPT + num_emitted - 1))

    def verify(self, drafter: HeadDrafter, start: int, end: int, wants_scores: bool = True) -> None:
        """Run one round: the features of the accepted rows, then the emitted tokens."""
        drafter.push(self.block(NUM_PROMPT + start - 1, NUM_PROMPT + end - 1))
        drafter.observe(self.session_id, self.observation(start, end, wants_scores))


def draft(drafter: HeadDrafter, session_id: str = "a", num_tokens: int = DEPTH, round_index: int = 0) -> DraftTree:
    return drafter.draft([DraftRequest(session_id, round_index, num_tokens)])[0]


def score(drafter: HeadDrafter, text: Text, start: int, end: int) -> Scores:
    return scores_of(drafter, [ScoreRequest(text.session_id, text.observation(start, end))])[0]


@pytest.mark.parametrize("num_emitted", [0, 1, 20])
def test_a_draft_equals_dense_evaluation(drafter: HeadDrafter, head: Eagle3Head, num_emitted: int) -> None:
    text = Text()
    text.open(drafter, num_emitted)
    expected = DenseHead(head, text.ids, text.features).greedy_draft(NUM_PROMPT + num_emitted, DEPTH)
    assert draft(drafter).token_ids.tolist() == expected
    assert draft(drafter).token_ids.tolist() == expected, "drafting leaves no trace"


def test_a_rejection_draft_carries_the_distribution_it_was_sampled_from(drafter: HeadDrafter, head: Eagle3Head) -> None:
    sampling = SamplingParams(temperature=0.8, top_p=0.95, logit_bias=((3, 2.0),))
    text = Text(sampling=sampling)
    text.open(drafter)
    tree = draft(drafter)
    dense = DenseHead(head, text.ids, text.features)
    assert tree.draft_probs is not None
    for depth, token in enumerate(tree.token_ids.tolist()):
        logits = dense.logits(NUM_PROMPT, tree.token_ids[:depth].tolist())[None]
        ids, probs = truncate(process_logits(logits, sampling)).row(0)
        own_ids, own_probs = tree.draft_probs.row(depth)
        assert own_ids.tolist() == ids.tolist()
        np.testing.assert_allclose(own_probs, probs, atol=1e-4)
        assert token in own_ids


def test_rejection_drafts_are_fresh_in_every_round_and_coupled_ones_are_not(drafter: HeadDrafter) -> None:
    for sampling, is_fresh in ((SamplingParams(temperature=1.0), True), (SamplingParams(seed=3), False)):
        text = Text(sampling=sampling)
        text.open(drafter)
        drafts = {tuple(draft(drafter, round_index=r).token_ids.tolist()) for r in range(6)}
        assert (len(drafts) > 1) == is_fresh


def test_drafted_ids_lie_in_the_draft_vocabulary(drafter: HeadDrafter, head: Eagle3Head) -> None:
    text = Text(sampling=SamplingParams(temperature=2.0))
    text.open(drafter)
    drafted = [t for r in range(20) for t in draft(drafter, round_index=r).token_ids.tolist()]
    assert set(drafted) <= set(head.draft_to_target.tolist())


def test_a_drafter_chosen_now_and_then_drafts_like_one_that_is_asked_every_round(head: Eagle3Head) -> None:
    """Switching at every round: three drafters, one always asked, one every third round, one only at the end."""
    text, rng = Text(seed=2), np.random.default_rng(0)
    always, sometimes, never = (make_drafter(head) for _ in range(3))
    for drafter in (always, sometimes, never):
        text.open(drafter)
    done, rounds = 0, 0
    while done < 35:
        expected = draft(always).token_ids.tolist()
        if rounds % 3 == 2:
            assert draft(sometimes).token_ids.tolist() == expected
        num_new = int(rng.integers(1, DEPTH + 2))
        for drafter in (always, sometimes, never):
            text.verify(drafter, done, done + num_new, wants_scores=drafter is not never)
        done, rounds = done + num_new, rounds + 1
    assert draft(never).token_ids.tolist() == draft(always).token_ids.tolist() == draft(sometimes).token_ids.tolist()


def test_sessions_drafted_in_one_pass_equal_sessions_alone(head: Eagle3Head) -> None:
    texts = [Text(seed, f"s{seed}") for seed in range(4)]
    together, alone = make_drafter(head), make_drafter(head)
    for number, text in enumerate(texts):
        for drafter in (together, alone):
            text.open(drafter, num_emitted=3 * number)
    lengths = [5, 2, 0, 4]
    trees = together.draft([DraftRequest(t.session_id, 0, n) for t, n in zip(texts, lengths, strict=True)])
    for text, tree, length in zip(texts, trees, lengths, strict=True):
        assert tree.token_ids.tolist() == draft(alone, text.session_id, length).token_ids.tolist()
        assert tree.num_nodes == length


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(temperature=1.0), SamplingParams(seed=5)])
def test_exact_scores_equal_drafting_at_every_start(head: Eagle3Head, sampling: SamplingParams) -> None:
    """Entry [p, j - 1] is what the head, drafting from p - j + 1 along the verified tokens, gives to token p; 0 once the
    draft has ended, which at temperature 1 means that it is kept with a probability below MIN_SURVIVAL."""
    text, drafter = Text(seed=3, sampling=sampling), make_drafter(head)
    dense = DenseHead(head, text.ids, text.features)
    text.open(drafter, score_depth="exact")
    cuts = [0, 1, 4, 10, 11]
    for start, end in pairwise(cuts):
        text.verify(drafter, start, end)
        acceptance = score(drafter, text, start, end).acceptance
        assert acceptance.shape == (end - start, DEPTH)
        for row, p in enumerate(range(start, end)):
            for depth in range(1, DEPTH + 1):
                earlier = [dense_acceptance(dense, text, p - depth + j, j) for j in range(1, depth)]
                expected = dense_acceptance(dense, text, p, depth) if np.prod(earlier) >= MIN_SURVIVAL else 0.0
                assert acceptance[row, depth - 1] == pytest.approx(expected, abs=1e-4), (p, depth)


def dense_acceptance(dense: DenseHead, text: Text, output_index: int, depth: int) -> float:
    start = output_index - depth + 1
    if start < 0:
        return 0.0
    first, position = NUM_PROMPT + start, NUM_PROMPT + output_index
    logits = dense.logits(first, text.ids[first:position].tolist())[None]
    token, sampling = int(text.ids[position]), text.sampling
    kept = truncate(process_logits(logits, sampling))
    ids, probs = kept.row(0)
    if sampling.method == "rejection":
        found = probs[ids == token]
        return min(1.0, float(found[0]) / float(text.target_probs[position])) if len(found) else 0.0
    return float(propose(ids, probs, sampling.method, 7, output_index, 0) == token)


def test_exact_greedy_scores_count_what_a_real_draft_would_have_had_accepted(head: Eagle3Head) -> None:
    """The text follows the head's own drafts for stretches, so that long acceptances happen."""
    text, drafter = Text(seed=4), make_drafter(head)
    dense = DenseHead(head, text.ids, text.features)
    for start in (0, 6, 12):
        drafted = DenseHead(head, text.ids, text.features).greedy_draft(NUM_PROMPT + start, 4)
        text.ids[NUM_PROMPT + start : NUM_PROMPT + start + 4] = drafted
    dense = DenseHead(head, text.ids, text.features)
    text.open(drafter, score_depth="exact")
    text.verify(drafter, 0, 20)
    acceptance = score(drafter, text, 0, 20).acceptance
    lengths = []
    for start in range(20 - DEPTH):
        realised = text.ids[NUM_PROMPT + start : NUM_PROMPT + start + DEPTH]
        real = np.array(dense.greedy_draft(NUM_PROMPT + start, DEPTH))
        num_accepted = int(np.cumprod(real == realised).sum())
        scored = np.array([acceptance[start + j, j] for j in range(DEPTH)])
        assert int(np.cumprod(scored).sum()) == num_accepted
        lengths.append(num_accepted)
    assert max(lengths) >= 4
    assert min(lengths) == 0


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(temperature=1.0, frequency_penalty=0.5)])
def test_depth1_scores_equal_the_first_column_of_exact_ones(head: Eagle3Head, sampling: SamplingParams) -> None:
    text = Text(seed=6, sampling=sampling)
    columns = []
    for score_depth in ("depth1", "exact"):
        drafter = make_drafter(head)
        text.open(drafter, score_depth=score_depth)
        text.verify(drafter, 0, 7)
        columns.append(score(drafter, text, 0, 7).acceptance[:, 0])
    np.testing.assert_allclose(columns[0], columns[1], atol=1e-6)
    assert columns[0].any() or sampling is GREEDY


def test_scores_that_come_late_equal_scores_at_once(head: Eagle3Head) -> None:
    """Three observations are appended before the first one is scored."""
    text = Text(seed=7, sampling=SamplingParams(temperature=1.0, presence_penalty=0.3))
    prompt, late = make_drafter(head), make_drafter(head)
    text.open(prompt, score_depth="exact")
    text.open(late, score_depth="exact")
    cuts = [(0, 3), (3, 4), (4, 9)]
    at_once = []
    for start, end in cuts:
        text.verify(prompt, start, end)
        at_once.append(score(prompt, text, start, end).acceptance)
    for start, end in cuts:
        text.verify(late, start, end)
    draft(late)
    for (start, end), expected in zip(cuts, at_once, strict=True):
        np.testing.assert_allclose(score(late, text, start, end).acceptance, expected, atol=1e-5)


def test_acceptance_prob_comes_with_the_targets_top_ids(drafter: HeadDrafter, head: Eagle3Head) -> None:
    text = Text(seed=8, sampling=SamplingParams(temperature=1.0))
    text.open(drafter, score_depth="exact")
    text.verify(drafter, 0, 2)
    uniform = np.full(VOCAB_SIZE, 1 / VOCAB_SIZE, np.float32)
    ids = np.arange(VOCAB_SIZE, dtype=np.int32)
    top = SparseRows(np.array([0, VOCAB_SIZE, 2 * VOCAB_SIZE], np.int32), np.tile(ids, 2), np.tile(uniform, 2))
    plain = text.observation(0, 2)
    observation = Observation(0, plain.token_ids, plain.target_probs, top)
    scores = scores_of(drafter, [ScoreRequest("a", observation)])[0]
    logits = DenseHead(head, text.ids, text.features).logits(NUM_PROMPT, [int(text.ids[NUM_PROMPT])])[None]
    own_ids, own_probs = truncate(process_logits(logits, text.sampling)).row(0)
    expected = np.minimum(own_probs, uniform[own_ids]).sum()
    assert scores.acceptance_prob is not None
    assert scores.acceptance_prob.shape == (2, DEPTH)
    assert scores.acceptance_prob[1, 1] == pytest.approx(expected, abs=1e-4)
    assert scores.acceptance_prob[0, 1] == 0.0, "a start before the first output index"


def test_features_may_come_in_any_order_twice_and_before_open(drafter: HeadDrafter, head: Eagle3Head) -> None:
    text = Text(seed=9)
    expected = DenseHead(head, text.ids, text.features).greedy_draft(NUM_PROMPT + 6, DEPTH)
    drafter.push(text.block(10, 15))
    drafter.push(text.block(0, 4))
    drafter.open(text.spec(num_emitted=6))
    for start, end in ((12, 19), (0, 10), (3, 11)):
        drafter.push(text.block(start, end))
    assert draft(drafter).token_ids.tolist() == expected
    drafter.push(text.block(0, 19))
    assert draft(drafter).token_ids.tolist() == expected


def test_bfloat16_features_are_understood(drafter: HeadDrafter, head: Eagle3Head) -> None:
    text = Text(seed=10)
    rounded = torch.from_numpy(text.features).bfloat16()
    bits = rounded.view(torch.int16).numpy().view(np.uint16)
    drafter.open(text.spec())
    drafter.push(FeatureBlock("a", 0, bits[: NUM_PROMPT - 1]))
    expected = DenseHead(head, text.ids, rounded.float().numpy()).greedy_draft(NUM_PROMPT, DEPTH)
    assert draft(drafter).token_ids.tolist() == expected


def test_missing_features_at_the_end_are_bridged_and_replaced_when_they_come(
    drafter: HeadDrafter, head: Eagle3Head
) -> None:
    text = Text(seed=11)
    dense = DenseHead(head, text.ids, text.features)
    text.open(drafter)
    drafter.observe("a", text.observation(0, 3))
    assert not drafter.has_newest_features("a")
    bridged = int(dense.logits(NUM_PROMPT, text.ids[NUM_PROMPT : NUM_PROMPT + 3].tolist()).argmax())
    assert draft(drafter).token_ids[0] == bridged, "the head goes on from its own states"
    assert drafter.has_newest_features("a"), "it does not wait in vain a second time"
    drafter.push(text.block(NUM_PROMPT - 1, NUM_PROMPT + 2))
    assert draft(drafter).token_ids.tolist() == dense.greedy_draft(NUM_PROMPT + 3, DEPTH)


def test_holes_cost_acceptance_but_never_an_error(head: Eagle3Head) -> None:
    """Any subset of blocks may be lost; drafts and scores keep their shapes and ranges."""
    rng = np.random.default_rng(12)
    for seed in range(8):
        text, drafter = Text(seed=seed, sampling=SamplingParams(temperature=1.0)), make_drafter(head)
        drafter.open(text.spec(score_depth="exact"))
        if rng.random() < 0.5:
            drafter.push(text.block(0, NUM_PROMPT - 1))
        done = 0
        while done < 30:
            end = done + int(rng.integers(1, 7))
            if rng.random() < 0.5:
                drafter.push(text.block(NUM_PROMPT + done - 1, NUM_PROMPT + end - 1))
            drafter.observe("a", text.observation(done, end))
            if rng.random() < 0.6:
                assert draft(drafter).num_nodes == DEPTH
            scores = score(drafter, text, done, end)
            assert scores.acceptance.shape == (end - done, DEPTH)
            assert ((scores.acceptance >= 0) & (scores.acceptance <= 1)).all()
            done = end


def test_after_a_hole_true_features_count_again(drafter: HeadDrafter) -> None:
    """A hole in the prompt changes drafts a little; it must not shift positions of what comes after it."""
    text = Text(seed=13)
    drafter.open(text.spec())
    drafter.push(text.block(4, NUM_PROMPT - 1))
    assert draft(drafter).num_nodes == DEPTH
    session = drafter._sessions["a"]
    assert session.positions == list(range(4, NUM_PROMPT - 1))
    assert session.slot.length == len(session.positions)


def test_a_long_text_without_any_features_costs_a_bounded_number_of_passes(drafter: HeadDrafter) -> None:
    text = Text(seed=14)
    drafter.open(text.spec(num_emitted=40))
    assert draft(drafter).num_nodes == DEPTH
    assert len(drafter._sessions["a"].tail) == MAX_TAIL_HOLES


def test_non_finite_and_misshapen_features_are_dropped(drafter: HeadDrafter) -> None:
    text = Text(seed=15)
    text.open(drafter)
    poisoned = text.features.copy()
    poisoned[NUM_PROMPT - 1] = np.nan
    drafter.push(FeatureBlock("a", NUM_PROMPT - 1, poisoned[NUM_PROMPT - 1 : NUM_PROMPT + 1]))
    drafter.push(FeatureBlock("a", NUM_PROMPT - 1, np.zeros((2, WIDTH + 1), np.float32)))
    drafter.observe("a", text.observation(0, 2))
    assert draft(drafter).num_nodes == DEPTH
    assert NUM_PROMPT - 1 not in drafter._sessions["a"].positions


def test_a_prompt_of_one_token_gives_no_draft_and_zero_scores(drafter: HeadDrafter) -> None:
    text = Text(seed=16)
    drafter.open(make_spec(text.ids[:1], max_draft_tokens=DEPTH))
    assert draft(drafter).num_nodes == 0
    drafter.push(text.block(0, 2))
    drafter.observe("a", Observation(0, text.ids[1:3], text.target_probs[1:3]))
    scores = scores_of(drafter, [ScoreRequest("a", Observation(0, text.ids[1:3], text.target_probs[1:3]))])[0]
    assert scores.acceptance[0, 0] == 0.0
    assert draft(drafter).num_nodes == DEPTH


def test_observing_again_is_idempotent(drafter: HeadDrafter, head: Eagle3Head) -> None:
    text = Text(seed=17)
    text.open(drafter)
    text.verify(drafter, 0, 4)
    assert len(drafter.observe("a", text.observation(0, 4)).token_ids) == 0
    new = drafter.observe("a", text.observation(2, 6))
    assert (new.start, len(new.token_ids)) == (4, 2)
    drafter.push(text.block(NUM_PROMPT + 3, NUM_PROMPT + 5))
    expected = DenseHead(head, text.ids, text.features).greedy_draft(NUM_PROMPT + 6, DEPTH)
    assert draft(drafter).token_ids.tolist() == expected


def test_close_frees_memory_and_features(drafter: HeadDrafter) -> None:
    text = Text()
    text.open(drafter)
    draft(drafter)
    assert drafter.usage().num_cached_tokens == NUM_PROMPT - 1
    drafter.close("a")
    drafter.close("a")
    assert drafter.usage() == Usage()
    with pytest.raises(UnknownSession):
        draft(drafter)


def test_sessions_beyond_the_memory_are_refused(head: Eagle3Head) -> None:
    drafter = make_drafter(head, max_cached_tokens=100)
    drafter.open(Text(0, "a").spec())
    with pytest.raises(ReplicaBusy, match="No KV memory"):
        drafter.open(Text(1, "b").spec())
    assert drafter.usage().num_sessions == 1


def test_features_of_unopened_sessions_make_room_for_opened_ones(head: Eagle3Head) -> None:
    drafter = make_drafter(head, max_cached_tokens=100)
    drafter.open(Text(0, "a").spec())
    for number in range(20):
        drafter.push(FeatureBlock(f"stranger{number}", 0, np.zeros((10, WIDTH), np.float32)))
    text = Text(0, "a")
    drafter.push(text.block(0, NUM_PROMPT - 1))
    assert drafter.has_newest_features("a")
    assert drafter.features is not None
    assert drafter.features.num_rows <= 100


def test_a_head_for_another_vocabulary_or_width_is_refused(folder: Path, embedding: torch.Tensor) -> None:
    config = DrafterConfig(id="d", kind="eagle3", model=str(folder))
    with pytest.raises(ModelFolderError, match="drafter d"):
        load_eagle3_drafters([config], embedding[:-1], HIDDEN_SIZE)
    with pytest.raises(ModelFolderError, match="hidden size"):
        load_eagle3_drafters([config], embedding, HIDDEN_SIZE + 1)
    assert load_eagle3_drafters([config], embedding, HIDDEN_SIZE)["d"].digest
