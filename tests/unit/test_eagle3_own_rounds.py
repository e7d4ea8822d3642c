"""Scores of the starts that a head's own rounds reach say the same about its rounds as scores of every start."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hedgespec.learning.estimators import RoundsCursor, advance
from hedgespec.models.eagle3.head import Eagle3Head, load_eagle3
from hedgespec.models.eagle3.head_bank import HeadBank
from hedgespec.models.eagle3.head_branches import HeadBranches
from hedgespec.models.eagle3.head_drafters import head_drafter
from hedgespec.models.eagle3.own_rounds import OwnRounds
from hedgespec.types import DraftRequest, FeatureBlock, Observation, SamplingParams, ScoreRequest
from tests.eagle3_reference import DenseHead
from tests.engine_sessions import GREEDY, make_spec, random_ids, scores_of
from tests.model_folders import HIDDEN_SIZE, VOCAB_SIZE, make_eagle3

LENGTH = 4
NUM_PROMPT = 10


def round_starts(acceptance: NDArray[np.float64], awake: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Return the probability that a round of one drafter starts, per position and behind them."""
    mask = None if awake is None else awake[None]
    return advance(RoundsCursor.start(1, acceptance.shape[1]), acceptance[None], mask)[1][:, 0]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), rate=st.floats(0.1, 0.95), draft_rate=st.floats(0.0, 1.0), has_gap=st.booleans())
def test_own_rounds_read_what_the_sum_of_u_reads(seed: int, rate: float, draft_rate: float, has_gap: bool) -> None:
    """All round starts are the same for random hits, own drafts and spans, one of which is not scored."""
    rng = np.random.default_rng(seed)
    cuts = [0, *np.cumsum(rng.integers(1, 9, size=8)).tolist()]
    num_tokens = cuts[-1]
    hits = rng.random((num_tokens + LENGTH, LENGTH)) < rate  # [start, depth - 1]
    text = np.arange(num_tokens, dtype=np.int32)
    rounds = OwnRounds(LENGTH)
    scored, every = np.zeros((num_tokens, LENGTH)), np.zeros((num_tokens, LENGTH))
    awake = np.ones(num_tokens, dtype=bool)
    last_scored, skipped = 0, int(rng.integers(1, 8)) if has_gap else -1
    for index, (first, end) in enumerate(pairwise(cuts)):
        for start in range(first, end):  # what it drafted while these tokens were verified
            if rng.random() < draft_rate:
                num_hits = int(np.cumprod(hits[start]).sum())
                rounds.drafted(start, [start + i if i < num_hits else -1 for i in range(LENGTH)])
        if index == skipped:
            awake[first:end] = False
            continue
        rounds.begin(first, is_gap=first != last_scored)
        last_scored = end
        own_hits = rounds.own_hits(text[:end])
        reachable = rounds.reachable(first, end, lambda s: bool(hits[s, 0]), own_hits)
        for start in range(num_tokens):
            own = own_hits.get(start)
            for depth in range(1, LENGTH + 1):
                position = start + depth - 1
                if first <= position < end:
                    value = float(hits[start, :depth].all())
                    every[position, depth - 1] = value
                    if depth == 1 or own is not None or start in reachable:
                        scored[position, depth - 1] = value if own is None else float(depth <= own)
        rounds.follow(first, end, lambda s, d: bool(scored[s + d - 1, d - 1]))
    np.testing.assert_array_equal(round_starts(scored, awake), round_starts(every, awake))


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Eagle3Head:
    folder: Path = make_eagle3(tmp_path_factory.mktemp("head"))
    return load_eagle3(folder, torch.randn((VOCAB_SIZE, HIDDEN_SIZE), generator=torch.Generator().manual_seed(1)))


class CountingBank(HeadBank):
    """Counts the rows that unrolling takes."""

    num_rows = 0

    def follow(self, steps: Sequence[tuple[HeadBranches, list[int], list[int]]]) -> None:
        self.num_rows += sum(len(tokens) for _, _, tokens in steps)
        super().follow(steps)


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(temperature=0.05, seed=5)], ids=["greedy", "coupled"])
@pytest.mark.parametrize(("draft_rate", "max_share"), [(0.0, 1.0), (0.6, 0.8), (1.0, 0.05)])
@pytest.mark.parametrize("drafts_ahead", [False, True], ids=["asked-first", "asked-while-verified"])
def test_a_head_is_given_the_same_rounds_for_less_work(
    head: Eagle3Head, sampling: SamplingParams, drafts_ahead: bool, draft_rate: float, max_share: float
) -> None:
    """The text follows its drafts for stretches; it drafts in some rounds; every few rounds it is asked for scores.

    drafts_ahead: as a router does, which asks when the target has been given the next draft.
    """
    rng = np.random.default_rng(11)
    num_tokens = 90
    ids = random_ids(NUM_PROMPT + num_tokens, seed=2)
    features = rng.normal(size=(len(ids), 3 * HIDDEN_SIZE)).astype(np.float32)
    probs = np.full(len(ids), 0.5, np.float32)
    position = 0
    while position < num_tokens - LENGTH:
        drafted = DenseHead(head, ids, features).greedy_draft(NUM_PROMPT + position, LENGTH)
        num_hits = int(rng.integers(0, LENGTH + 1))
        ids[NUM_PROMPT + position : NUM_PROMPT + position + num_hits] = drafted[:num_hits]
        position += num_hits + 1
    acceptance, rows = {}, {}
    for score_depth in ("exact", "own_rounds"):
        draws = np.random.default_rng(3)
        bank = CountingBank([head])
        drafter = head_drafter("d", bank, "digest", max_sessions=2, max_cached_tokens=4096)
        spec = make_spec(ids[:NUM_PROMPT], "a", sampling, max_draft_tokens=LENGTH, score_depth=score_depth)
        drafter.open(spec)
        drafter.push(FeatureBlock("a", 0, features[: NUM_PROMPT - 1]))
        parts, start, unscored = [], 0, 0
        while start < num_tokens:
            num_hits = int(draws.integers(0, LENGTH + 1))
            if draws.random() < draft_rate:
                tree = drafter.draft([DraftRequest("a", start, LENGTH)])[0]
                realised = ids[NUM_PROMPT + start : NUM_PROMPT + start + LENGTH]
                num_hits = int(np.cumprod(tree.token_ids[: len(realised)] == realised).sum())
            end = min(start + num_hits + 1, num_tokens)
            drafter.push(
                FeatureBlock("a", NUM_PROMPT + start - 1, features[NUM_PROMPT + start - 1 : NUM_PROMPT + end - 1])
            )
            asks = bool(draws.random() < 0.3) or end == num_tokens
            span = slice(NUM_PROMPT + start, NUM_PROMPT + end)
            observation = Observation(
                start, ids[span], probs[span], wants_scores=asks, score_from=unscored if asks else None
            )
            own = drafter.observe("a", observation)
            if asks:
                if drafts_ahead and draft_rate > 0.0:
                    drafter.draft([DraftRequest("a", end, LENGTH)])
                before = bank.num_rows
                parts.append(scores_of(drafter, [ScoreRequest("a", own)])[0].acceptance)
                rows[score_depth] = rows.get(score_depth, 0) + bank.num_rows - before
                unscored = end
            start = end
        acceptance[score_depth] = np.concatenate(parts).astype(np.float64)
    np.testing.assert_array_equal(round_starts(acceptance["own_rounds"]), round_starts(acceptance["exact"]))
    assert round_starts(acceptance["exact"])[:-1].sum() < 0.8 * num_tokens, "some drafts were accepted"
    assert rows["own_rounds"] <= max_share * rows["exact"]
