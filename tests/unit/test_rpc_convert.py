"""Nouns survive the wire bit by bit, and whatever else arrives becomes the exception that the caller knows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hedgespec.errors import (
    HedgeSpecError,
    InvalidDraft,
    InvalidObservation,
    ReplicaBusy,
    ReplicaLost,
    RequestError,
    UnknownSession,
)
from hedgespec.rpc.convert import features, rounds, sessions
from hedgespec.rpc.faults import read_error, write_error
from hedgespec.rpc.v1 import replica_pb2 as pb
from hedgespec.types import (
    EMPTY_DRAFT,
    DraftForm,
    DraftTree,
    FeatureBlock,
    Observation,
    Opened,
    SamplingParams,
    ScoreDepth,
    Scores,
    SessionSpec,
    SparseRows,
    Verdict,
)

ROWS = SparseRows(np.array([0, 2, 3], np.int32), np.array([4, 9, 1], np.int32), np.array([0.25, 0.75, 1.0], np.float32))
SPEC = SessionSpec(
    session_id="s",
    prompt_ids=np.array([1, 2, 3], np.int32),
    emitted_ids=np.array([7], np.int32),
    sampling=SamplingParams(
        temperature=0.7,
        top_p=0.9,
        top_k=40,
        seed=-5,
        logit_bias=((3, -1.5), (4, 100.0)),
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        repetition_penalty=1.1,
    ),
    noise_seed=2**64 - 1,
    max_draft_tokens=5,
    cache_salt="tenant",
    feature_sinks=("127.0.0.1:1", "127.0.0.1:2"),
    num_target_top=64,
    score_depth="exact",
    draft_form=DraftForm("distinct", 3),
    num_prompt_scores=2,
)


def open_message() -> pb.Open:
    message = pb.Open()
    sessions.write_open(message, SPEC, "lease")
    return message


def tree_message() -> pb.DraftTree:
    message = pb.DraftTree()
    rounds.write_tree(message, DraftTree.chain(np.array([4, 1]), ROWS))
    return message


def verdict_message() -> pb.Verdict:
    message = pb.Verdict()
    rounds.write_verdict(
        message, Verdict(np.array([0], np.int32), np.array([4, 1], np.int32), np.array([0.5, 1.0], np.float32), ROWS)
    )
    return message


def observe_message() -> pb.Observe:
    message = pb.Observe()
    tokens, probs = np.array([4, 1], np.int32), np.array([0.5, 1.0], np.float32)
    rounds.write_observation(message, Observation(3, tokens, probs, ROWS, score_from=1))
    return message


def opened_message() -> pb.Opened:
    message = pb.Opened()
    sessions.write_opened(message, Opened(7, ROWS))
    return message


def score_prompt_message() -> pb.ScorePrompt:
    message = pb.ScorePrompt()
    sessions.write_score_prompt(message, ROWS)
    return message


def prompt_scores_message() -> pb.PromptScores:
    message = pb.PromptScores()
    sessions.write_prompt_scores(message, np.array([0.25, 1.0], np.float32))
    return message


def score_message() -> pb.Score:
    message = pb.Score()
    values = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
    rounds.write_scores(message, Scores(3, values, values[::-1]))
    return message


def feature_message() -> pb.FeatureBlock:
    return features.write_features(FeatureBlock("s", 5, np.arange(12, dtype=np.float32).reshape(3, 4)))


def assert_same_rows(left: SparseRows | None, right: SparseRows | None) -> None:
    assert left is not None
    assert right is not None
    np.testing.assert_array_equal(left.offsets, right.offsets)
    np.testing.assert_array_equal(left.ids, right.ids)
    np.testing.assert_array_equal(left.probs, right.probs)


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


@pytest.mark.parametrize("score_depth", ["depth1", "path", "exact"])
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
    assert_same_rows(sessions.read_score_prompt(score_prompt_message()), ROWS)
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
    block = features.read_features(features.write_features(FeatureBlock("s", 5, rows)))
    assert (block.session_id, block.start_position, block.rows.dtype) == ("s", 5, rows.dtype)
    np.testing.assert_array_equal(block.rows, rows)


def _set(path: str, value: object) -> Callable[[object], None]:
    """A mutation: assign to `a.b`, or replace a repeated field's content."""

    def mutate(message: object) -> None:
        *parents, name = path.split(".")
        for parent in parents:
            message = getattr(message, parent)
        if isinstance(value, list):
            field = getattr(message, name)
            del field[:]
            field.extend(value)
        else:
            setattr(message, name, value)

    return mutate


FLOAT_NAN = np.array([np.nan, 1.0], "<f4").tobytes()
FLOAT_NEGATIVE = np.array([-0.1, 1.0], "<f4").tobytes()

BAD_OPENS = [
    _set("prompt_ids", []),
    _set("prompt_ids", [1, -2]),
    _set("emitted_ids", [-1]),
    _set("max_draft_tokens", 10_000),
    _set("num_target_top", 513),
    _set("feature_sinks", ["a"] * 65),
    _set("sampling.temperature", -1.0),
    _set("sampling.temperature", math.nan),
    _set("sampling.top_p", 0.0),
    _set("sampling.top_p", math.inf),
    _set("sampling.top_k", 2**31),
    _set("sampling.presence_penalty", math.nan),
    _set("sampling.frequency_penalty", 1e9),
    _set("sampling.repetition_penalty", 0.0),
    _set("prompt_ids", [0] * (sessions.MAX_SESSION_TOKENS + 1)),
    _set("num_prompt_scores", sessions.MAX_PROMPT_SCORES + 1),
    _set("draft_form.kind", 9),
    _set("draft_form.branching", sessions.MAX_BRANCHING + 1),
]
BAD_TREES = [
    _set("token_ids", [4]),
    _set("token_ids", [4, -1]),
    _set("token_ids", [1] * 257),
    _set("parent", [-1]),
    _set("parent", [-1, 1]),
    _set("parent", [-2, 0]),
    _set("draft_probs.lengths", [2]),
    _set("draft_probs.lengths", [3, 0]),
    _set("draft_probs.lengths", [2**32 - 1, 2**32 - 1]),
    _set("draft_probs.ids", b""),
    _set("draft_probs.ids", b"\xff" * 12),
    _set("draft_probs.probs", b"\0" * 11),
    _set("draft_probs.probs", np.array([np.nan, 0.5, 1.0], "<f4").tobytes()),
    _set("draft_probs.probs", np.array([np.inf, 0.5, 1.0], "<f4").tobytes()),
    _set("draft_probs.probs", np.array([0.2, 0.5, 1.0], "<f4").tobytes()),
    _set("draft_probs.probs", np.array([0.6, 0.5, 1.0], "<f4").tobytes()),
]
BAD_VERDICTS = [
    _set("token_ids", []),
    _set("token_ids", [4, -1]),
    _set("accepted_nodes", []),
    _set("accepted_nodes", [2**32 - 1]),
    _set("target_probs", FLOAT_NAN),
    _set("target_probs", FLOAT_NEGATIVE),
    _set("target_probs", b""),
    _set("target_top.lengths", [1]),
]
BAD_OBSERVATIONS = [
    _set("start", 2**31),
    _set("token_ids", [1]),
    _set("token_ids", [4, -1]),
    _set("target_probs", FLOAT_NAN),
    _set("target_top.probs", b"\0" * 8),
    _set("score_from", 6),
    _set("score_from", 2**32 - 1),
]
BAD_PROMPT_TOPS = [
    _set("prompt_top.lengths", [1] * (sessions.MAX_PROMPT_SCORES + 1)),
    _set("prompt_top.lengths", [2**32 - 1, 2**32 - 1]),
    _set("prompt_top.ids", b"\xff" * 12),
    _set("prompt_top.probs", np.array([np.nan, 0.5, 1.0], "<f4").tobytes()),
]
BAD_PROMPT_SCORES = [
    _set("overlap", b"\0" * 7),
    _set("overlap", b"\0" * 4 * (sessions.MAX_PROMPT_SCORES + 1)),
    _set("overlap", FLOAT_NAN),
    _set("overlap", np.array([1.1], "<f4").tobytes()),
]
BAD_SCORES = [
    _set("depth", 4),
    _set("depth", 2**32 - 1),
    _set("start", 2**31),
    _set("acceptance", FLOAT_NAN * 3),
    _set("acceptance", np.full(6, 2.0, "<f4").tobytes()),
    _set("acceptance_prob", b"\0" * 4),
]
BAD_FEATURES = [
    _set("session_id", ""),
    _set("session_id", "x" * 129),
    _set("start_position", 2**31),
    _set("num_positions", 2**32 - 1),
    _set("width", 0),
    _set("width", 2**32 - 1),
    _set("bfloat16", True),
    _set("rows", b""),
]


@pytest.mark.parametrize("mutate", BAD_OPENS)
def test_a_malformed_session_is_a_request_error(mutate: Callable[[object], None]) -> None:
    message = open_message()
    mutate(message)
    with pytest.raises(RequestError):
        sessions.read_open("s", message)


@pytest.mark.parametrize("session_id", ["", "x" * 129])
def test_a_session_id_must_have_a_sane_length(session_id: str) -> None:
    with pytest.raises(RequestError, match="session_id"):
        sessions.read_open(session_id, open_message())


@pytest.mark.parametrize("mutate", BAD_TREES)
def test_a_malformed_draft_is_an_invalid_draft(mutate: Callable[[object], None]) -> None:
    message = tree_message()
    mutate(message)
    with pytest.raises(InvalidDraft):
        rounds.read_tree(message, "code")


@pytest.mark.parametrize("mutate", BAD_VERDICTS)
def test_a_target_with_malformed_verdicts_is_lost(mutate: Callable[[object], None]) -> None:
    message = verdict_message()
    mutate(message)
    with pytest.raises(ReplicaLost):
        rounds.read_verdict(message)


@pytest.mark.parametrize("mutate", BAD_OBSERVATIONS)
def test_a_malformed_observation_is_an_invalid_observation(mutate: Callable[[object], None]) -> None:
    message = observe_message()
    mutate(message)
    with pytest.raises(InvalidObservation):
        rounds.read_observation(message)


def test_a_backlog_longer_than_an_observation_may_be_is_refused() -> None:
    message = observe_message()
    message.start = rounds.MAX_OBSERVED_TOKENS + 10
    with pytest.raises(InvalidObservation, match="score_from"):
        rounds.read_observation(message)


@pytest.mark.parametrize("mutate", BAD_PROMPT_TOPS)
def test_malformed_prompt_rows_lose_the_target_and_are_refused_by_drafters(mutate: Callable[[object], None]) -> None:
    opened, score_prompt = opened_message(), score_prompt_message()
    mutate(opened)
    mutate(score_prompt)
    with pytest.raises(ReplicaLost):
        sessions.read_opened(opened)
    with pytest.raises(InvalidObservation):
        sessions.read_score_prompt(score_prompt)


@pytest.mark.parametrize("mutate", BAD_PROMPT_SCORES)
def test_malformed_prompt_scores_are_an_invalid_observation(mutate: Callable[[object], None]) -> None:
    message = prompt_scores_message()
    mutate(message)
    with pytest.raises(InvalidObservation):
        sessions.read_prompt_scores(message)


@pytest.mark.parametrize("mutate", BAD_SCORES)
def test_malformed_scores_are_an_invalid_observation(mutate: Callable[[object], None]) -> None:
    message = score_message()
    mutate(message)
    with pytest.raises(InvalidObservation):
        rounds.read_scores(message)


@pytest.mark.parametrize("mutate", BAD_FEATURES)
def test_malformed_features_are_an_invalid_observation(mutate: Callable[[object], None]) -> None:
    """The product of the claimed shape is computed in Python integers: no claim can make us allocate."""
    message = feature_message()
    mutate(message)
    with pytest.raises(InvalidObservation):
        features.read_features(message)


READERS: list[tuple[Callable[[], object], Callable[[bytes], object]]] = [
    (open_message, lambda data: sessions.read_open("s", pb.Open.FromString(data))),
    (tree_message, lambda data: rounds.read_tree(pb.DraftTree.FromString(data), "")),
    (verdict_message, lambda data: rounds.read_verdict(pb.Verdict.FromString(data))),
    (observe_message, lambda data: rounds.read_observation(pb.Observe.FromString(data))),
    (opened_message, lambda data: sessions.read_opened(pb.Opened.FromString(data))),
    (score_prompt_message, lambda data: sessions.read_score_prompt(pb.ScorePrompt.FromString(data))),
    (prompt_scores_message, lambda data: sessions.read_prompt_scores(pb.PromptScores.FromString(data))),
    (score_message, lambda data: rounds.read_scores(pb.Score.FromString(data))),
    (feature_message, lambda data: features.read_features(pb.FeatureBlock.FromString(data))),
]


@given(case=st.sampled_from(READERS), flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6))
@settings(max_examples=1500, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_flipped_bytes_never_raise_anything_unexpected(
    case: tuple[Callable[[], object], Callable[[bytes], object]], flips: list[tuple[int, int]]
) -> None:
    """1,500 garbled messages: a noun, one of our errors, or protobuf's parse error; nothing else."""
    make, read = case
    data = bytearray(make().SerializeToString())  # type: ignore[attr-defined]
    for position, value in flips:
        data[position % len(data)] = value
    try:
        read(bytes(data))
    except HedgeSpecError:
        pass
    except Exception as error:
        assert type(error).__name__ == "DecodeError"  # noqa: PT017 - its module depends on the build


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
    """It may hold a prompt or a path; the router learns the type and treats the replica as lost."""
    message = pb.Error()
    write_error(message, ValueError("the secret prompt"), 4)
    back = read_error(message, "here:1")
    assert isinstance(back, ReplicaLost)
    assert "secret" not in str(back)
    assert "ValueError" in str(back)
