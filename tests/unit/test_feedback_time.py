"""Objective `time`: from one trajectory, the seconds that every drafter and draft length would have taken alone."""

from __future__ import annotations

import numpy as np
import pytest

from hedgespec.errors import ConfigError
from hedgespec.learning.feedback import Feedback, make_feedback
from hedgespec.learning.objectives.time import experts_by_length
from hedgespec.types import DraftForm, Scores
from tests.enumerated_models import RandomModels

DEPTH = 3
LENGTHS = (1, 2, 3)
EXPERTS = experts_by_length(2, LENGTHS, DEPTH)
SECONDS = np.array([0.012, 0.013, 0.015, 0.014, 0.018, 0.025, 0.010])
NONE = -1  # no speculation is the last expert


def made(seconds: np.ndarray = SECONDS) -> Feedback:
    return make_feedback("time", 2, DEPTH, 8, draft_lengths=LENGTHS, seconds=lambda experts: seconds)


def test_sum_of_u_times_seconds_is_the_expected_time_of_each_expert_alone() -> None:
    """Averaged over every trajectory of the target, seconds_e + sum of losses * seconds_max (without the last vector,
    which is u behind the end) is the expected time of speculative decoding with that drafter and length, exactly."""
    num_tokens = 5
    for seed in range(2):
        models = [RandomModels(seed, has_start_dependent_drafts=True) for _ in range(2)]
        models[1].target = models[0].target
        models[1].drafter = RandomModels(seed + 100, has_start_dependent_drafts=True).drafter
        estimate = np.zeros(len(EXPERTS))
        for tokens, probability in models[0].trajectories(num_tokens):
            feedback = made()
            feedback.verified(num_tokens, round_index=0)
            for drafter, own in enumerate(models):
                acceptance, _ = own.acceptance(tokens, DEPTH)
                feedback.push(drafter, Scores(0, np.nan_to_num(acceptance)))
            losses = np.array([vector for vector, _ in feedback.closed_losses(0)])
            estimate += probability * (SECONDS + losses[:-1].sum(axis=0) * SECONDS.max())
        truth = [
            models[e.drafter_index].expected_passes(num_tokens, e.num_draft_tokens) * SECONDS[index]
            for index, e in enumerate(EXPERTS)
            if e.drafter_index is not None
        ] + [SECONDS[NONE] * num_tokens]
        assert estimate == pytest.approx(truth, rel=1e-12)
        assert len({round(value, 6) for value in truth}) == len(EXPERTS)


def test_a_shorter_draft_is_the_rounds_objective_of_that_length() -> None:
    """Expert (drafter, k) sees the first k columns and nothing else: the same u as max_draft_tokens = k gives."""
    rows = np.random.default_rng(0).random((2, 30, DEPTH), dtype=np.float32)
    together = vectors_of(made(np.ones(len(EXPERTS))), rows)
    for index, expert in enumerate(EXPERTS[:NONE]):
        alone = vectors_of(
            make_feedback("rounds", 2, expert.num_draft_tokens, 8), rows[:, :, : expert.num_draft_tokens]
        )
        np.testing.assert_allclose(together[:, index], alone[:, expert.drafter_index], atol=1e-12)


def test_no_speculation_costs_its_seconds_at_every_position() -> None:
    """The u of no speculation is exactly 1, whatever the drafters did."""
    rows = np.random.default_rng(1).random((2, 20, DEPTH), dtype=np.float32)
    assert (vectors_of(made(), rows)[:, NONE] == SECONDS[NONE] / SECONDS.max()).all()


def test_seconds_are_those_of_the_moment_of_closing() -> None:
    """Vectors that close after a change of load carry the new times, the largest of which is loss 1."""
    seconds = np.ones(len(EXPERTS))
    feedback = make_feedback("time", 2, DEPTH, 8, draft_lengths=LENGTHS, seconds=lambda experts: seconds)
    for round_index, none_s in enumerate((1.0, 0.5)):
        seconds = np.ones(len(EXPERTS))
        seconds[NONE] = none_s
        feedback.verified(1, round_index)
        for drafter in range(2):
            feedback.push(drafter, Scores(round_index, np.zeros((1, DEPTH), np.float32)))
        ((losses, _),) = feedback.closed_losses(round_index)
        assert losses.tolist() == [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, none_s]


def test_a_slow_drafter_counts_for_no_more_than_what_cannot_win_anyway() -> None:
    """A round of k tokens that takes above k + 1 plain ones loses against no speculation whatever it accepts, and the
    losses of all others stay apart: 0.5 and 1 second against 1,000 would be alike."""
    seconds = np.array([0.5, 1000.0, 1.0])
    feedback = make_feedback("time", 2, DEPTH, 8, seconds=lambda experts: seconds)
    hits = np.ones((2, 400, DEPTH), np.float32)
    hits[0] = 0.0
    losses = vectors_of(feedback, hits)
    assert losses[:, 0].tolist() == [0.125] * 400
    assert losses[:, NONE].tolist() == [0.25] * 400
    assert losses[:, 1].max() == 1.0
    assert losses[:, 1].sum() == pytest.approx(losses[:, NONE].sum()), (
        "all tokens accepted, and yet no better than none"
    )


def test_an_expert_is_awake_when_its_drafter_answered() -> None:
    """All lengths of an absent drafter sleep and restart at u = 1; no speculation never sleeps."""
    feedback = made(np.ones(len(EXPERTS)))
    feedback.mark_absent(1)
    feedback.verified(2, round_index=0)
    feedback.push(0, Scores(0, np.ones((2, DEPTH), np.float32)))
    for _, awake in feedback.closed_losses(0):
        assert awake.tolist() == [True, True, True, False, False, False, True]
    feedback.verified(1, round_index=1)
    for drafter in range(2):
        feedback.push(drafter, Scores(2, np.full((1, DEPTH), 0.5, np.float32)))
    ((losses, awake),) = feedback.closed_losses(1)
    assert awake.all()
    # drafter 0 stood behind two hits: inside its second, its full and its first draft
    assert losses[:3].tolist() == [0.5, 1.0, 0.5]
    assert losses[3:NONE].tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("answering", [0, 1])
def test_no_speculation_is_awake_whichever_drafter_answers(answering: int) -> None:
    """The loss of no speculation needs no scores, so that it never sleeps where there is anything to compare with."""
    feedback = made()
    feedback.mark_absent(1 - answering)
    feedback.verified(1, round_index=0)
    feedback.push(answering, Scores(0, np.ones((1, DEPTH), np.float32)))
    ((losses, awake),) = feedback.closed_losses(0)
    assert awake.tolist() == [answering == 0] * 3 + [answering == 1] * 3 + [True]
    assert losses[NONE] == SECONDS[NONE] / SECONDS.max()


def test_positions_that_no_drafter_scored_are_no_evidence_for_no_speculation() -> None:
    """A vector in which only `no speculation` is awake would move nothing, and is left out."""
    feedback = made()
    for drafter in range(2):
        feedback.mark_absent(drafter)
    feedback.verified(3, round_index=0)
    assert feedback.closed_losses(0) == []


def test_expected_passes_stay_per_drafter_at_the_full_length() -> None:
    """Preferences mean the same under every objective."""
    rows = np.random.default_rng(2).random((2, 30, DEPTH), dtype=np.float32)
    by_rounds, by_time = make_feedback("rounds", 2, DEPTH, 8), made()
    vectors_of(by_rounds, rows), vectors_of(by_time, rows)
    assert by_time.expected_passes().tolist() == by_rounds.expected_passes().tolist()
    assert by_time.scored_throughout().tolist() == [True, True]


def test_time_refuses_to_do_without_times() -> None:
    with pytest.raises(ConfigError, match="needs the seconds"):
        make_feedback("time", 2, DEPTH, 8)


@pytest.mark.parametrize("seconds", [np.ones(3), np.zeros(7), np.full(7, np.nan), np.full(7, np.inf)])
def test_times_that_are_none_are_refused(seconds: np.ndarray) -> None:
    """A wrong number of times, or one that is not positive and finite, is an error and not a loss."""
    feedback = made(seconds)
    with pytest.raises(ConfigError, match="positive seconds"):
        vectors_of(feedback, np.ones((2, 1, DEPTH), np.float32))


def test_trees_have_one_length() -> None:
    """Shadow-cursor scores follow rounds of the full length; shorter experts would read entries that mean nothing."""
    settings = {"seconds": lambda experts: np.ones(len(experts)), "draft_form": DraftForm("tree", 4)}
    assert make_feedback("time", 2, DEPTH, 8, **settings).experts == experts_by_length(2, (DEPTH,), DEPTH)
    with pytest.raises(ConfigError, match="full length only"):
        make_feedback("time", 2, DEPTH, 8, draft_lengths=(2,), **settings)


def vectors_of(feedback: Feedback, rows: np.ndarray) -> np.ndarray:
    """Return the vectors [num_vectors, num_experts] of drafters that score everything at once; rows: [num_drafters,
    num_tokens, depth]."""
    feedback.verified(rows.shape[1], round_index=0)
    for drafter, own in enumerate(rows):
        feedback.push(drafter, Scores(0, own))
    return np.array([losses for losses, _ in feedback.closed_losses(0)])
