"""Scores come late, twice, out of order or never; the loss vectors come in order of position all the same."""

from __future__ import annotations

import numpy as np
import pytest

from hedgespec.errors import ConfigError, InvalidObservation
from hedgespec.learning.estimators import RoundsCursor, advance, expected_length, length_product, start_diagonals
from hedgespec.learning.feedback import Feedback, make_feedback
from hedgespec.types import Scores

NUM_DRAFTERS, DEPTH, NUM_TOKENS, TIMEOUT_ROUNDS = 3, 4, 40, 3


def random_rows(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """acceptance and acceptance_prob, [num_drafters, num_tokens, depth] float32."""
    rng = np.random.default_rng(seed)
    shape = (NUM_DRAFTERS, NUM_TOKENS, DEPTH)
    return rng.random(shape, dtype=np.float32), rng.random(shape, dtype=np.float32)


def made(objective: str = "rounds") -> Feedback:
    return make_feedback(objective, NUM_DRAFTERS, DEPTH, TIMEOUT_ROUNDS)


def push(feedback: Feedback, drafter: int, start: int, end: int, rows: tuple[np.ndarray, np.ndarray]) -> None:
    feedback.push(drafter, Scores(start, rows[0][drafter, start:end], rows[1][drafter, start:end]))


def expected_vectors(objective: str, rows: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Loss vectors of the whole answer computed at once: [num_vectors, num_drafters]."""
    acceptance, gamma = (values.astype(np.float64) for values in rows)
    if objective == "acceptance":
        return 1.0 - gamma[:, :, 0].T
    if objective == "length_product":
        return 1.0 - length_product(start_diagonals(gamma)).T / (DEPTH + 1)
    if objective == "length":
        return 1.0 - expected_length(start_diagonals(acceptance), start_diagonals(gamma)).T / (DEPTH + 1)
    return advance(RoundsCursor.start(NUM_DRAFTERS, DEPTH), acceptance)[1][1:]


@pytest.mark.parametrize("objective", ["rounds", "acceptance", "length", "length_product"])
@pytest.mark.parametrize("seed", range(5))
def test_any_arrival_order_gives_the_same_losses(objective: str, seed: int) -> None:
    """Rows in random pieces, overlapping, repeated and out of order, lead to the same vectors as all at once."""
    rng = np.random.default_rng(seed)
    rows = random_rows(seed)
    feedback, vectors = made(objective), []
    pieces = [(drafter, start) for drafter in range(NUM_DRAFTERS) for start in range(0, NUM_TOKENS, 3)] * 2
    feedback.verified(NUM_TOKENS, round_index=0)
    for index in rng.permutation(len(pieces)):
        drafter, start = pieces[index]
        push(feedback, drafter, start, min(start + 5, NUM_TOKENS), rows)
        vectors += feedback.closed_losses(0)
    assert all(awake.all() for _, awake in vectors)
    np.testing.assert_allclose([losses for losses, _ in vectors], expected_vectors(objective, rows), atol=1e-12)
    assert feedback.scored_throughout().all()
    assert feedback.finish() == []


def test_expected_passes_are_the_sum_of_u_under_every_objective() -> None:
    """Preferences store the same number whatever the objective: u_0 = 1 included, u after the last token not."""
    rows = random_rows(7)
    _, round_starts = advance(RoundsCursor.start(NUM_DRAFTERS, DEPTH), rows[0].astype(np.float64))
    for objective in ("rounds", "acceptance", "length", "length_product"):
        feedback = made(objective)
        for round_index in range(NUM_TOKENS // 4):
            feedback.verified(4, round_index)
            for drafter in range(NUM_DRAFTERS):
                push(feedback, drafter, 4 * round_index, 4 * round_index + 4, rows)
            feedback.closed_losses(round_index)
        np.testing.assert_allclose(feedback.expected_passes(), round_starts[:-1].sum(axis=0), atol=1e-9)


def test_a_position_waits_for_every_present_drafter() -> None:
    """Nothing closes before the last present drafter has answered; then everything that it held up closes in order."""
    rows, feedback = random_rows(0), made()
    feedback.verified(6, round_index=0)
    push(feedback, 0, 0, 6, rows)
    push(feedback, 1, 0, 6, rows)
    assert feedback.closed_losses(0) == []
    push(feedback, 2, 0, 2, rows)
    push(feedback, 2, 3, 6, rows)
    assert len(feedback.closed_losses(0)) == 2
    push(feedback, 2, 2, 3, rows)
    assert len(feedback.closed_losses(0)) == 4


def test_an_absent_drafter_is_not_waited_for() -> None:
    """A drafter marked absent sleeps in the vectors, is not scored throughout, and the others are not held up."""
    rows, feedback = random_rows(0), made()
    feedback.mark_absent(1)
    feedback.verified(5, round_index=0)
    push(feedback, 0, 0, 5, rows)
    push(feedback, 2, 0, 5, rows)
    vectors = feedback.closed_losses(0)
    assert [awake.tolist() for _, awake in vectors] == [[True, False, True]] * 5
    assert feedback.scored_throughout().tolist() == [True, False, True]


def test_what_changes_between_two_looks_in_one_round_is_seen_by_the_second() -> None:
    """The router looks before and during a target pass: scores, a loss and newly asked positions in between all count."""
    rows, feedback = random_rows(0), made()
    feedback.verified(1, round_index=0)
    push(feedback, 0, 0, 1, rows)
    push(feedback, 1, 0, 1, rows)
    assert feedback.closed_losses(0) == []
    push(feedback, 2, 0, 1, rows)
    assert len(feedback.closed_losses(0)) == 1
    feedback.verified(1, round_index=0)
    push(feedback, 0, 1, 2, rows)
    push(feedback, 1, 1, 2, rows)
    assert feedback.closed_losses(0) == []
    feedback.mark_absent(2)
    assert len(feedback.closed_losses(0)) == 1
    feedback.verified(1, round_index=0, is_asked=False)
    push(feedback, 0, 2, 3, rows)
    push(feedback, 1, 2, 3, rows)
    assert feedback.closed_losses(0) == []
    feedback.asked(0)
    assert len(feedback.closed_losses(0)) == 1


def test_a_late_position_closes_with_the_drafters_that_answered() -> None:
    """The vector closes after score_timeout_rounds rounds, and the silent drafter is not waited for again."""
    rows, feedback = random_rows(0), made()
    for round_index in range(TIMEOUT_ROUNDS):
        feedback.verified(2, round_index)
        push(feedback, 0, 2 * round_index, 2 * round_index + 2, rows)
        push(feedback, 2, 2 * round_index, 2 * round_index + 2, rows)
        assert feedback.closed_losses(round_index) == []
    vectors = feedback.closed_losses(TIMEOUT_ROUNDS)
    assert len(vectors) == 2 * TIMEOUT_ROUNDS
    assert all(awake.tolist() == [True, False, True] for _, awake in vectors)


@pytest.mark.parametrize("objective", ["length", "length_product"])
def test_a_length_needs_all_positions_of_its_start(objective: str) -> None:
    """A drafter that misses one position sleeps for the K starts that reach it; the others do not."""
    rows, feedback, missing = random_rows(0), made(objective), 10
    feedback.verified(NUM_TOKENS, round_index=0)
    for drafter in range(NUM_DRAFTERS):
        push(feedback, drafter, 0, missing, rows)
        push(feedback, drafter, missing + (drafter == 1), NUM_TOKENS, rows)
    vectors = feedback.finish()
    assert [start for start, (_, awake) in enumerate(vectors) if not awake[1]] == list(
        range(missing - DEPTH + 1, missing + 1)
    )
    assert all(awake[0] and awake[2] for _, awake in vectors)
    assert len(vectors) == NUM_TOKENS - DEPTH + 1


def test_a_drafter_that_comes_back_is_scored_from_one_again() -> None:
    """A returning drafter's u restarts at 1, it is waited for again, and it stays out of the preferences of this answer."""
    rows, feedback = random_rows(0), made()
    feedback.verified(5, round_index=0)
    for drafter in (0, 2):
        push(feedback, drafter, 0, 5, rows)
    assert len(feedback.closed_losses(TIMEOUT_ROUNDS)) == 5
    feedback.verified(5, round_index=4)
    push(feedback, 1, 5, 7, rows)
    assert feedback.closed_losses(4) == []
    for drafter in (0, 2):
        push(feedback, drafter, 5, 10, rows)
    vectors = feedback.closed_losses(4)
    _, restarted = advance(RoundsCursor.start(1, DEPTH), rows[0][1:2, 5:7].astype(np.float64))
    assert all(awake.all() for _, awake in vectors)
    np.testing.assert_allclose([losses[1] for losses, _ in vectors], restarted[1:, 0])
    assert feedback.scored_throughout().tolist() == [True, False, True]


def test_scores_of_closed_positions_change_nothing() -> None:
    """A late answer is ignored and does not bring its drafter back among those that are waited for."""
    rows, feedback = random_rows(0), made()
    feedback.verified(4, round_index=0)
    for drafter in (0, 2):
        push(feedback, drafter, 0, 4, rows)
    feedback.closed_losses(TIMEOUT_ROUNDS)
    passes = feedback.expected_passes()
    push(feedback, 1, 0, 4, rows)
    feedback.verified(1, round_index=5)
    for drafter in (0, 2):
        push(feedback, drafter, 4, 5, rows)
    ((_, awake),) = feedback.closed_losses(5)
    assert awake.tolist() == [True, False, True]
    assert feedback.scored_throughout().tolist() == [True, False, True]
    assert (feedback.expected_passes() >= passes).all()


def test_the_first_score_of_a_position_counts() -> None:
    """A second, different answer for the same position is ignored."""
    feedback = made()
    feedback.verified(1, round_index=0)
    for drafter in range(NUM_DRAFTERS):
        feedback.push(drafter, Scores(0, np.full((1, DEPTH), 0.25, np.float32)))
        feedback.push(drafter, Scores(0, np.full((1, DEPTH), 0.75, np.float32)))
    ((losses, _),) = feedback.closed_losses(0)
    assert losses.tolist() == [0.75, 0.75, 0.75]


def test_depth_one_rows_stand_for_every_depth() -> None:
    """Rows of one column mean that acceptance does not depend on the start."""
    rows = random_rows(0)[0]
    narrow, wide = made(), made()
    for feedback, values in ((narrow, rows[:, :, :1]), (wide, rows[:, :, :1].repeat(DEPTH, axis=2))):
        feedback.verified(NUM_TOKENS, round_index=0)
        for drafter in range(NUM_DRAFTERS):
            feedback.push(drafter, Scores(0, values[drafter]))
    for (one, _), (other, _) in zip(narrow.closed_losses(0), wide.closed_losses(0), strict=True):
        np.testing.assert_array_equal(one, other)


def test_finish_closes_what_is_open() -> None:
    """Open positions close at the end with the drafters that answered; nothing more is waited for."""
    rows, feedback = random_rows(0), made()
    feedback.verified(4, round_index=0)
    push(feedback, 0, 0, 4, rows)
    push(feedback, 1, 0, 2, rows)
    vectors = feedback.finish()
    assert [awake.tolist() for _, awake in vectors] == [[True, True, False]] * 2 + [[True, False, False]] * 2
    assert feedback.scored_throughout().tolist() == [True, False, False]


def test_positions_that_no_drafter_scored_are_no_evidence() -> None:
    """Without any present drafter there are no vectors, and none was scored throughout; nor in an empty answer."""
    feedback = made()
    assert not feedback.scored_throughout().any()
    for drafter in range(NUM_DRAFTERS):
        feedback.mark_absent(drafter)
    feedback.verified(3, round_index=0)
    assert feedback.closed_losses(0) == []
    assert not feedback.scored_throughout().any()


def test_many_open_positions_fit() -> None:
    """The buffer grows: 1000 positions may be open at once, and the rows stay where they belong."""
    acceptance = np.random.default_rng(1).random((NUM_DRAFTERS, 1000, 1), dtype=np.float32)
    feedback = made()
    for round_index in range(100):
        feedback.verified(10, round_index)
    for drafter in reversed(range(NUM_DRAFTERS)):
        for start in range(0, 1000, 100):
            feedback.push(drafter, Scores(start, acceptance[drafter, start : start + 100]))
    _, round_starts = advance(
        RoundsCursor.start(NUM_DRAFTERS, DEPTH), acceptance.astype(np.float64).repeat(DEPTH, axis=2)
    )
    vectors = feedback.closed_losses(0)
    np.testing.assert_allclose([losses for losses, _ in vectors], round_starts[1:], atol=1e-12)


def test_an_estimate_above_one_keeps_the_differences() -> None:
    """The sparse estimate of gamma may exceed 1: losses stay in [0, 1] and the gaps between drafters are kept."""
    feedback = make_feedback("acceptance", 3, 1, 8)
    feedback.verified(1, round_index=0)
    for drafter, gamma in enumerate((1.3, 0.9, 0.4)):
        feedback.push(drafter, Scores(0, np.ones((1, 1), np.float32), np.array([[gamma]], np.float32)))
    ((losses, _),) = feedback.closed_losses(0)
    np.testing.assert_allclose(losses, [0.0, 0.4, 0.9], atol=1e-6)


def test_the_product_form_can_prefer_the_worse_drafter() -> None:
    """Two equally likely ids. Drafter 0 proposes only the first and is certain behind it: 2.00 tokens; drafter 1 has
    gamma = 0.55 everywhere: 1.8525. Summed over both trajectories `length` ranks them so, `length_product` (1.75 and
    1.8525) the other way."""
    trajectories = [  # per id: a [drafter, position, depth] and gamma; only the diagonal is read
        (np.array([[[1.0], [1.0]], [[0.1], [0.55]]]), np.array([[[0.5], [1.0]], [[0.55], [0.55]]])),
        (np.array([[[0.0], [0.0]], [[1.0], [0.55]]]), np.array([[[0.5], [0.0]], [[0.55], [0.55]]])),
    ]
    sums: dict[str, np.ndarray] = {"length": np.zeros(2), "length_product": np.zeros(2)}
    for objective, total in sums.items():
        for a, gamma in trajectories:
            feedback = make_feedback(objective, 2, 2, 8)
            feedback.verified(2, round_index=0)
            for drafter in range(2):
                rows = (values[drafter].repeat(2, axis=1).astype(np.float32) for values in (a, gamma))
                feedback.push(drafter, Scores(0, *rows))
            ((losses, _),) = feedback.closed_losses(0)
            total += losses / 2
    np.testing.assert_allclose(sums["length"], 1.0 - np.array([2.0, 1.8525]) / 3, atol=1e-6)
    np.testing.assert_allclose(sums["length_product"], 1.0 - np.array([1.75, 1.8525]) / 3, atol=1e-6)


def test_without_draft_tokens_every_position_is_a_pass() -> None:
    """max_draft_tokens = 0: u = 1 everywhere, and the other objectives have nothing to say."""
    for objective, num_vectors in (("rounds", 3), ("acceptance", 0), ("length", 0), ("length_product", 0)):
        feedback = make_feedback(objective, 2, 0, 8)
        feedback.verified(3, round_index=0)
        for drafter in range(2):
            feedback.push(drafter, Scores(0, np.zeros((3, 0), np.float32), np.zeros((3, 0), np.float32)))
        vectors = feedback.closed_losses(0)
        assert len(vectors) == num_vectors
        assert all(losses.tolist() == [1.0, 1.0] for losses, _ in vectors)
        assert feedback.expected_passes().tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (Scores(-1, np.ones((1, DEPTH), np.float32)), "verified"),
        (Scores(2, np.ones((2, DEPTH), np.float32)), "verified"),
        (Scores(0, np.ones((1, DEPTH - 1), np.float32)), "shape"),
        (Scores(0, np.ones(1, np.float32)), "shape"),
        (Scores(0, np.full((1, DEPTH), np.nan, np.float32)), "finite"),
        (Scores(0, np.array([[0.5, np.nan, 0.5, 0.5]], np.float32)), "finite"),
        (Scores(0, np.full((1, DEPTH), 1.5, np.float32)), "finite"),
        (Scores(0, np.full((1, DEPTH), -0.5, np.float32)), "finite"),
    ],
)
def test_impossible_scores_are_refused(scores: Scores, message: str) -> None:
    """A drafter that lies about positions, shapes or ranges is refused and nothing changes."""
    feedback = made()
    feedback.verified(3, round_index=0)
    with pytest.raises(InvalidObservation, match=message):
        feedback.push(0, scores)
    assert not any(awake[0] for _, awake in feedback.finish())


def test_objectives_say_what_they_need() -> None:
    """Objectives that compare acceptance probabilities refuse scores without acceptance_prob; an unknown objective
    names the known ones."""
    for objective in ("acceptance", "length", "length_product"):
        feedback = made(objective)
        feedback.verified(1, round_index=0)
        with pytest.raises(InvalidObservation, match="num_target_top"):
            feedback.push(0, Scores(0, np.ones((1, DEPTH), np.float32)))
    with pytest.raises(ConfigError, match="rounds"):
        made("round")  # type: ignore[arg-type]
