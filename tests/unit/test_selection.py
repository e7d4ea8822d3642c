"""Selection decides which drafters propose, and how the nodes of a merged draft are divided."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hedgespec.learning.answer_learner import AnswerLearner, per_drafter, per_expert
from hedgespec.learning.build import make_learner
from hedgespec.learning.experts import Expert
from hedgespec.learning.feedback import make_feedback
from hedgespec.learning.sleepers import PATIENCE, Sleepers
from hedgespec.router.selection import Choice, DraftLimits, LearnedSelection, split_nodes

ALL = [True, True, True]


def learner_with(weights: list[float], sleepers: Sleepers | None = None) -> AnswerLearner:
    """A learner whose weights are its prior."""
    feedback = make_feedback("rounds", len(weights), 5, 8)
    return AnswerLearner(make_learner("hedge"), np.array(weights), feedback, sleepers=sleepers)


def test_sampling_draws_by_weight_and_leader_takes_the_largest() -> None:
    """400 draws with weight 0.2, 0.3, 0.5: each count within 5 standard deviations (false alarm below 1e-5)."""
    learner = learner_with([0.2, 0.3, 0.5])
    sample, leader = LearnedSelection(learner, 7), LearnedSelection(learner, 7, "leader")
    counts = Counter(sample.choose(r, ALL, DraftLimits(5))[0].drafter_index for r in range(400))
    for index, share in enumerate((0.2, 0.3, 0.5)):
        assert abs(counts[index] - 400 * share) < 5 * (400 * share * (1 - share)) ** 0.5
    assert {leader.choose(r, ALL, DraftLimits(5))[0].drafter_index for r in range(50)} == {2}


@pytest.mark.parametrize("follow", ["sample", "leader"])
def test_sleepers_and_absent_drafters_are_never_chosen(follow: str) -> None:
    sleepers = Sleepers(3, 0.25, 1000)
    learner = learner_with([0.2, 0.3, 0.5], sleepers)
    for round_index in range(PATIENCE):
        sleepers.occasion(learner.weights, round_index)
    selection = LearnedSelection(learner, 7, follow)  # type: ignore[arg-type]
    chosen = {selection.choose(r, [True, True, False], DraftLimits(5))[0].drafter_index for r in range(100)}
    assert chosen == {1}
    assert selection.choose(0, [False, False, False], DraftLimits(5)) == ()


def test_merged_drafters_are_the_heaviest_and_share_the_nodes_by_weight() -> None:
    selection = LearnedSelection(learner_with([0.2, 0.3, 0.5]), 7)
    limits = DraftLimits(num_draft_tokens=5, num_nodes=16, branching=2, num_drafters=2)
    assert selection.choose(0, ALL, limits) == (Choice(2, 5, 10), Choice(1, 5, 6))
    assert selection.choose(0, [True, True, False], limits) == (Choice(1, 5, 10), Choice(0, 5, 6))


def test_a_merged_chain_is_no_longer_than_its_nodes_and_no_nodes_are_wasted() -> None:
    selection = LearnedSelection(learner_with([0.05, 0.15, 0.8]), 7)
    few = DraftLimits(num_draft_tokens=5, num_drafters=3)
    assert selection.choose(0, ALL, few) == (Choice(2, 4, 4), Choice(1, 1, 1))
    many = DraftLimits(num_draft_tokens=5, num_nodes=10, num_drafters=3)
    assert selection.choose(0, ALL, many) == (Choice(2, 5, 5), Choice(1, 4, 4), Choice(0, 1, 1))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    weights=st.lists(st.floats(1e-9, 1.0), min_size=1, max_size=8),
    num_nodes=st.integers(0, 128),
    capacity=st.integers(1, 128),
)
def test_nodes_are_all_given_out_and_no_drafter_gets_more_than_it_can_use(
    weights: list[float], num_nodes: int, capacity: int
) -> None:
    weights = sorted(weights, reverse=True)
    shares = split_nodes(weights, num_nodes, capacity)
    assert sum(shares) == min(num_nodes, capacity * len(weights))
    assert all(0 <= share <= capacity for share in shares)
    assert shares == sorted(shares, reverse=True)


def test_time_experts_carry_their_length_and_no_speculation_is_one_of_them() -> None:
    experts = (Expert(0, 2), Expert(0, 5), Expert(1, 2), Expert(1, 5), Expert(None, 0))
    prior = per_expert(experts, np.array([0.75, 0.25]))
    np.testing.assert_allclose(prior, [0.3, 0.3, 0.1, 0.1, 0.2])
    np.testing.assert_allclose(per_drafter(experts, prior, 2), [0.6, 0.2])
    feedback = make_feedback("time", 2, 5, 8, draft_lengths=(2, 5), seconds=lambda experts: np.ones(5))
    learner = AnswerLearner(make_learner("hedge"), np.array([0.75, 0.25]), feedback)
    assert learner.experts == experts
    selection = LearnedSelection(learner, 3)
    chosen = Counter(selection.choose(r, [True, True], DraftLimits(4)) for r in range(500))
    assert set(chosen) == {(Choice(0, 2),), (Choice(0, 4),), (Choice(1, 2),), (Choice(1, 4),), ()}
    assert abs(chosen[()] - 100) < 5 * 80**0.5  # 5 standard deviations, false alarm below 1e-6
    down = {selection.choose(r, [False, True], DraftLimits(4)) for r in range(200)}
    assert down == {(Choice(1, 2),), (Choice(1, 4),), ()}
