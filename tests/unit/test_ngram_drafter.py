"""Prompt lookup: the longest, most recent match is continued; scores are exactly the hits of its own drafts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hedgespec.errors import InvalidObservation, ReplicaBusy, UnknownSession
from hedgespec.models.drafter_model import Usage
from hedgespec.models.ngram.ngram_drafter import MAX_SUFFIX, NgramDrafter
from hedgespec.types import DraftRequest, DraftTree, Observation, SamplingParams, ScoreRequest, SessionSpec, SparseRows
from tests.engine_sessions import scores_of

DEPTH = 4


def make_spec(prompt: list[int], emitted: tuple[int, ...] = (), temperature: float = 0.0) -> SessionSpec:
    return SessionSpec(
        session_id="a",
        prompt_ids=np.array(prompt, np.int32),
        emitted_ids=np.array(emitted, np.int32),
        sampling=SamplingParams(temperature=temperature),
        noise_seed=1,
        max_draft_tokens=DEPTH,
    )


def opened(prompt: list[int], temperature: float = 0.0) -> NgramDrafter:
    drafter = NgramDrafter("ngram", max_tokens=1000)
    drafter.open(make_spec(prompt, temperature=temperature))
    return drafter


def draft(drafter: NgramDrafter, num_tokens: int = DEPTH) -> DraftTree:
    return drafter.draft([DraftRequest("a", 0, num_tokens)])[0]


def observation(start: int, tokens: list[int], top: SparseRows | None = None) -> Observation:
    return Observation(start, np.array(tokens, np.int32), np.full(len(tokens), 0.5, np.float32), top)


def naive_draft(ids: list[int], num_tokens: int) -> list[int]:
    """Search the text for the longest suffix, most recent occurrence first."""
    for length in range(min(MAX_SUFFIX, len(ids)), 0, -1):
        suffix = ids[-length:]
        for end in range(len(ids) - 1, length - 1, -1):
            if ids[end - length : end] == suffix:
                text = list(ids)
                for offset in range(num_tokens):
                    text.append(text[end + offset])
                return text[len(ids) :]
    return []


def test_it_continues_the_most_recent_occurrence_of_the_longest_suffix() -> None:
    assert draft(opened([1, 2, 3, 9, 8, 7, 2, 3, 5, 5, 1, 2, 3])).token_ids.tolist() == [9, 8, 7, 2]
    assert draft(opened([3, 4, 1, 3, 5, 1, 3])).token_ids.tolist() == [5, 1, 3, 5]


def test_nothing_is_proposed_without_a_match() -> None:
    assert draft(opened([1, 2, 3, 4])).num_nodes == 0


def test_a_repeating_text_is_continued_periodically() -> None:
    assert draft(opened([7, 8, 7, 8])).token_ids.tolist() == [7, 8, 7, 8]


def test_at_most_the_asked_number_is_proposed() -> None:
    drafter = opened([7, 8, 7, 8])
    assert draft(drafter, 2).token_ids.tolist() == [7, 8]
    assert draft(drafter, 0).num_nodes == 0
    assert draft(drafter, 50).num_nodes == DEPTH


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.lists(st.integers(0, 3), max_size=20))
def test_the_incremental_index_equals_a_search_of_the_whole_text(prompt: list[int], emitted: list[int]) -> None:
    drafter = opened(prompt)
    drafter.observe("a", observation(0, emitted))
    assert draft(drafter).token_ids.tolist() == naive_draft(prompt + emitted, DEPTH)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=20), st.lists(st.lists(st.integers(0, 2), max_size=5), max_size=6)
)
def test_scores_are_the_hits_of_its_drafts_at_every_start(prompt: list[int], rounds: list[list[int]]) -> None:
    """Entry [p, j - 1] is 1 exactly when the draft from p - j + 1 agrees with the text up to and including p."""
    drafter, emitted = opened(prompt), []
    for tokens in rounds:
        start = len(emitted)
        new = drafter.observe("a", observation(start, tokens))
        emitted += tokens
        scores = scores_of(drafter, [ScoreRequest("a", new)])[0]
        assert scores.acceptance.shape == (len(tokens), DEPTH)
        for row in range(len(tokens)):
            for depth in range(1, DEPTH + 1):
                first = start + row - depth + 1
                drafted = naive_draft(prompt + emitted[:first], depth) if first >= 0 else []
                expected = len(drafted) == depth and drafted == emitted[first : first + depth]
                assert scores.acceptance[row, depth - 1] == expected


def test_rejection_drafts_carry_one_hot_distributions() -> None:
    tree = draft(opened([7, 8, 7, 8], temperature=1.0))
    assert tree.draft_probs is not None
    assert tree.draft_probs.ids.tolist() == tree.token_ids.tolist()
    assert tree.draft_probs.probs.tolist() == [1.0] * DEPTH
    assert draft(opened([7, 8, 7, 8])).draft_probs is None


def test_acceptance_prob_is_the_targets_probability_of_the_proposal() -> None:
    drafter = opened([7, 8, 7, 8, 9, 7])
    top = SparseRows(np.array([0, 2], np.int32), np.array([8, 5], np.int32), np.array([0.6, 0.3], np.float32))
    for token, expected in ((5, 0.6), (8, 0.6)):
        fresh = opened([7, 8, 7, 8, 9, 7])
        scores = scores_of(fresh, [ScoreRequest("a", fresh.observe("a", observation(0, [token], top)))])[0]
        assert scores.acceptance_prob is not None
        assert scores.acceptance_prob[0, 0] == pytest.approx(expected)
    unsent = SparseRows(np.array([0, 1], np.int32), np.array([5], np.int32), np.array([0.3], np.float32))
    scores = scores_of(drafter, [ScoreRequest("a", drafter.observe("a", observation(0, [8], unsent)))])[0]
    assert scores.acceptance_prob is not None
    assert scores.acceptance_prob[0, 0] == 1.0


def test_observing_is_idempotent_and_gaps_are_refused() -> None:
    drafter = opened([1, 2])
    drafter.observe("a", observation(0, [3, 4]))
    new = drafter.observe("a", observation(1, [4, 5]))
    assert (new.start, new.token_ids.tolist()) == (2, [5])
    with pytest.raises(InvalidObservation, match="resend the gap"):
        drafter.observe("a", observation(4, [6]))
    with pytest.raises(InvalidObservation, match="other tokens"):
        drafter.observe("a", observation(1, [9]))
    with pytest.raises(InvalidObservation, match="must lie in"):
        drafter.observe("a", observation(3, [-1]))


def test_memory_is_bounded_and_freed() -> None:
    drafter = NgramDrafter("ngram", max_tokens=5)
    drafter.open(make_spec([1, 2, 3], emitted=(4,)))
    with pytest.raises(ReplicaBusy):
        drafter.open(make_spec([1, 2]))
    drafter.close("a")
    drafter.close("a")
    assert drafter.usage() == Usage()
    with pytest.raises(UnknownSession):
        draft(drafter)
