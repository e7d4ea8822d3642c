"""Nouns are converted to protobuf and back: fields arrive bit by bit, and errors keep their types."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hedgespec.errors import (
    HedgeSpecError,
    InvalidDraft,
    InvalidObservation,
    ReplicaBusy,
    ReplicaLost,
    RequestError,
    UnknownSession,
)
from hedgespec.rpc.convert import arrays, rounds, sessions
from hedgespec.rpc.faults import read_error, write_error
from hedgespec.rpc.v1 import replica_pb2 as pb
from hedgespec.types import (
    EMPTY_DRAFT,
    DraftForm,
    DraftTree,
    FeatureBlock,
    ScoreDepth,
    SessionSpec,
)
from tests.rpc_messages import (
    ROWS,
    SPEC,
    assert_same_rows,
    observe_message,
    open_message,
    opened_message,
    prompt_scores_message,
    score_message,
    score_prompt_message,
    tree_message,
    verdict_message,
)


def test_a_session_arrives_as_it_was_sent_except_for_where_the_answer_ends() -> None:
    """Both id lists stay separate, the 64-bit noise key keeps every bit, stop conditions stay with the router."""
    spec = sessions.read_open("s", pb.Open.FromString(open_message().SerializeToString()))
    assert spec.prompt_ids.tolist() == [1, 2, 3]
    assert spec.emitted_ids.tolist() == [7]
    assert spec.prompt_ids.dtype == np.int32
    assert spec.sampling == SPEC.sampling
    assert (spec.noise_seed, spec.max_draft_tokens, spec.cache_salt) == (2**64 - 1, 5, "tenant")
    assert (spec.feature_sinks, spec.num_target_top, spec.score_depth) == (SPEC.feature_sinks, 64, "exact")
    assert (spec.draft_form, spec.num_prompt_scores) == (DraftForm("distinct", 3), 2)


@pytest.mark.parametrize("score_depth", ["depth1", "own_rounds", "exact"])
def test_every_depth_of_scores_arrives(score_depth: ScoreDepth) -> None:
    message = pb.Open()
    sessions.write_open(message, replace(SPEC, score_depth=score_depth))
    assert sessions.read_open("s", pb.Open.FromString(message.SerializeToString())).score_depth == score_depth


def test_a_session_of_a_sender_that_knows_chains_only_is_one_of_chains() -> None:
    """Fields that an older router does not send keep their old meaning."""
    message = open_message()
    message.ClearField("draft_form")
    assert sessions.read_open("s", message).draft_form == DraftForm("chain", 1)


def test_a_request_without_a_seed_arrives_without_one() -> None:
    message = open_message()
    message.sampling.ClearField("seed")
    assert sessions.read_open("s", message).sampling.seed is None


def test_a_tree_keeps_its_shape_and_its_distributions() -> None:
    """Chains travel without parents; real trees keep theirs."""
    chain = rounds.read_tree(tree_message(), "code")
    assert chain.is_chain
    assert chain.drafter_id == "code"
    assert_same_rows(chain.draft_probs, ROWS)
    message = pb.DraftTree()
    tree = DraftTree(np.array([5, 6, 7], np.int32), np.array([-1, -1, 0], np.int32))
    rounds.write_tree(message, tree)
    assert rounds.read_tree(message, "").parent.tolist() == [-1, -1, 0]
    empty = pb.DraftTree()
    rounds.write_tree(empty, EMPTY_DRAFT)
    assert rounds.read_tree(empty, "").num_nodes == 0


def test_a_verdict_and_an_observation_keep_every_probability_bit() -> None:
    verdict = rounds.read_verdict(verdict_message())
    assert verdict.token_ids.tolist() == [4, 1]
    assert verdict.accepted_nodes.tolist() == [0]
    assert verdict.target_probs.tobytes() == np.array([0.5, 1.0], np.float32).tobytes()
    assert_same_rows(verdict.target_top, ROWS)
    observation = rounds.read_observation(observe_message())
    assert (observation.start, observation.wants_scores, observation.score_from) == (3, True, 1)
    assert_same_rows(observation.target_top, ROWS)


def test_an_observation_without_a_backlog_arrives_without_one() -> None:
    """Absent is not 0: a drafter must not score the whole answer again."""
    message = observe_message()
    message.ClearField("score_from")
    assert rounds.read_observation(message).score_from is None
    message.score_from = 0
    assert rounds.read_observation(message).score_from == 0


def test_prompt_rows_and_prompt_scores_keep_every_bit() -> None:
    opened = sessions.read_opened(opened_message())
    assert opened.num_cached_tokens == 7
    assert_same_rows(opened.prompt_top, ROWS)
    assert_same_rows(sessions.read_prompt_top(score_prompt_message().prompt_top), ROWS)
    assert sessions.read_prompt_scores(prompt_scores_message()).tolist() == [0.25, 1.0]
    assert sessions.read_opened(pb.Opened()).prompt_top is None


def test_scores_keep_shape_and_no_scores_stay_none() -> None:
    scores = rounds.read_scores(score_message())
    assert scores is not None
    assert scores.acceptance.shape == (2, 3)
    assert scores.acceptance_prob is not None
    np.testing.assert_array_equal(scores.acceptance_prob, scores.acceptance[::-1])
    empty = pb.Score()
    rounds.write_scores(empty, None)
    assert rounds.read_scores(empty) is None


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_features_keep_dtype_shape_and_bits(dtype: type) -> None:
    rows = np.arange(12).astype(dtype).reshape(3, 4)
    block = arrays.read_features(arrays.write_features(FeatureBlock("s", 5, rows)))
    assert (block.session_id, block.start_position, block.rows.dtype) == ("s", 5, rows.dtype)
    np.testing.assert_array_equal(block.rows, rows)


def test_a_session_too_long_for_one_message_is_refused_by_the_sender() -> None:
    long = SessionSpec("s", np.zeros(sessions.MAX_SESSION_TOKENS + 1, np.int32), SPEC.emitted_ids, SPEC.sampling, 0, 5)
    with pytest.raises(RequestError, match="does not fit"):
        sessions.write_open(pb.Open(), long)


@pytest.mark.parametrize("error", [ReplicaBusy, UnknownSession, InvalidDraft, InvalidObservation, RequestError])
def test_our_errors_arrive_as_the_same_type_with_the_same_text(error: type[HedgeSpecError]) -> None:
    message = pb.Error()
    write_error(message, error("what happened"), 4)
    back = read_error(message, "here:1")
    assert type(back) is error
    assert str(back) == "what happened"


def test_the_text_of_a_foreign_exception_stays_on_the_replica() -> None:
    """The text may hold a prompt or a path; the router learns the type and treats the replica as lost."""
    message = pb.Error()
    write_error(message, ValueError("the secret prompt"), 4)
    back = read_error(message, "here:1")
    assert isinstance(back, ReplicaLost)
    assert "secret" not in str(back)
    assert "ValueError" in str(back)
