"""Malformed messages raise the error that they should, whatever is wrong with them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hedgespec.errors import (
    HedgeSpecError,
    InvalidDraft,
    InvalidObservation,
    ReplicaLost,
    RequestError,
)
from hedgespec.rpc.convert import arrays, rounds, sessions
from hedgespec.rpc.v1 import replica_pb2 as pb
from tests.rpc_messages import (
    feature_message,
    observe_message,
    open_message,
    opened_message,
    prompt_scores_message,
    score_message,
    score_prompt_message,
    tree_message,
    verdict_message,
)


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
        sessions.read_prompt_top(score_prompt.prompt_top)


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
        arrays.read_features(message)


READERS: list[tuple[Callable[[], object], Callable[[bytes], object]]] = [
    (open_message, lambda data: sessions.read_open("s", pb.Open.FromString(data))),
    (tree_message, lambda data: rounds.read_tree(pb.DraftTree.FromString(data), "")),
    (verdict_message, lambda data: rounds.read_verdict(pb.Verdict.FromString(data))),
    (observe_message, lambda data: rounds.read_observation(pb.Observe.FromString(data))),
    (opened_message, lambda data: sessions.read_opened(pb.Opened.FromString(data))),
    (score_prompt_message, lambda data: sessions.read_prompt_top(pb.ScorePrompt.FromString(data).prompt_top)),
    (prompt_scores_message, lambda data: sessions.read_prompt_scores(pb.PromptScores.FromString(data))),
    (score_message, lambda data: rounds.read_scores(pb.Score.FromString(data))),
    (feature_message, lambda data: arrays.read_features(pb.FeatureBlock.FromString(data))),
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
