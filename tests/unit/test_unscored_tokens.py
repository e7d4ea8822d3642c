"""Tokens that were observed without scores wait, within bounds, for the observation that wants them."""

from __future__ import annotations

import numpy as np
import pytest

from hedgespec.learning.observations import joined
from hedgespec.models.drafting import score_batches, unscored_tokens
from hedgespec.models.drafting.score_batches import batches, joined_scores
from hedgespec.models.drafting.unscored_tokens import UnscoredTokens
from hedgespec.types import Observation, ScoreRequest, Scores, SparseRows


def part(start: int, end: int, *, wants_scores: bool = True, has_top: bool = False) -> Observation:
    ids = np.arange(start, end, dtype=np.int32)
    lengths = ids % 3  # rows of 0, 1 and 2 ids
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    top = SparseRows(offsets, np.repeat(ids, lengths), np.repeat(ids, lengths).astype(np.float32) / 100)
    return Observation(start, ids, ids.astype(np.float32) / 100, top if has_top else None, wants_scores)


def test_later_scores_cover_the_tokens_from_score_from_on() -> None:
    tokens = UnscoredTokens()
    for start in (0, 3, 6):
        assert tokens.add(part(start, start + 3, wants_scores=False, has_top=True), None).start == start
    span = tokens.add(part(9, 11, has_top=True), 4)
    assert (span.start, span.token_ids.tolist()) == (4, list(range(4, 11)))
    np.testing.assert_allclose(span.target_probs, np.arange(4, 11) / 100)
    assert span.target_top is not None
    for row, token in enumerate(range(4, 11)):
        assert span.target_top.row(row)[0].tolist() == [token] * (token % 3)


def test_scored_tokens_are_not_scored_again() -> None:
    tokens = UnscoredTokens()
    tokens.add(part(0, 3), None)
    assert tokens.add(part(3, 5), 0).start == 3
    tokens.add(part(5, 8, wants_scores=False), None)
    assert tokens.add(part(8, 9), None).start == 8, "without score_from only what is new"
    assert tokens.add(part(9, 10), 5).start == 9


def test_only_so_many_tokens_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unscored_tokens, "MAX_UNSCORED", 10)
    tokens = UnscoredTokens()
    for start in range(0, 40, 4):
        tokens.add(part(start, start + 4, wants_scores=False), None)
    span = tokens.add(part(40, 42), 0)
    assert 42 - 10 <= span.start < 42
    assert span.token_ids[-1] == 41


def test_a_part_without_the_targets_top_ids_leaves_them_out_of_the_whole() -> None:
    assert joined([part(0, 3, has_top=True), part(3, 4)]).target_top is None


def test_requests_of_one_session_that_follow_each_other_are_scored_as_one() -> None:
    requests = [
        ScoreRequest("a", part(0, 3)),
        ScoreRequest("b", part(5, 6)),
        ScoreRequest("a", part(3, 4)),
        ScoreRequest("a", part(9, 10)),
        ScoreRequest("b", part(6, 9, has_top=True)),
    ]
    rounds = batches(requests)
    assert [[(span.session_id, span.indices) for span in batch] for batch in rounds] == [
        [("a", [0, 2]), ("b", [1])],
        [("a", [3]), ("b", [4])],
    ]
    span = rounds[0][0]
    assert span.observation.token_ids.tolist() == [0, 1, 2, 3]
    scores = Scores(0, np.arange(8, dtype=np.float32).reshape(4, 2))
    answers = dict(span.split(scores))
    assert answers[0].acceptance.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert (answers[2].start, answers[2].acceptance.tolist()) == (3, [[6, 7]])


def test_long_requests_are_scored_piece_by_piece_and_put_together_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_batches, "MAX_TOKENS", 4)
    rounds = batches([ScoreRequest("a", part(0, 10, has_top=True)), ScoreRequest("a", part(10, 11, has_top=True))])
    pieces = [[(span.observation.start, len(span.observation.token_ids)) for span in batch] for batch in rounds]
    assert pieces == [[(0, 4)], [(4, 4)], [(8, 3)]]
    answers: dict[int, list[Scores]] = {0: [], 1: []}
    for batch in rounds:
        own = batch[0].observation
        assert own.target_top is not None
        assert own.target_top.num_rows == len(own.token_ids)
        values = own.token_ids[:, None].astype(np.float32)
        for index, scores in batch[0].split(Scores(own.start, values, 2 * values)):
            answers[index].append(scores)
    whole = joined_scores(answers[0])
    assert whole.acceptance[:, 0].tolist() == list(range(10))
    assert whole.acceptance_prob is not None
    assert whole.acceptance_prob[:, 0].tolist() == list(range(0, 20, 2))
    assert joined_scores(answers[1]).acceptance.tolist() == [[10.0]]
