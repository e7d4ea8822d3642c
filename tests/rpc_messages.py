"""Messages with everything in them, for tests of what reads and writes them."""

from __future__ import annotations

import numpy as np

from hedgespec.rpc.convert import arrays, rounds, sessions
from hedgespec.rpc.v1 import replica_pb2 as pb
from hedgespec.types import (
    DraftForm,
    DraftTree,
    FeatureBlock,
    Observation,
    Opened,
    SamplingParams,
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
    arrays.write_rows(message.prompt_top, ROWS)
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
    return arrays.write_features(FeatureBlock("s", 5, np.arange(12, dtype=np.float32).reshape(3, 4)))


def assert_same_rows(left: SparseRows | None, right: SparseRows | None) -> None:
    assert left is not None
    assert right is not None
    np.testing.assert_array_equal(left.offsets, right.offsets)
    np.testing.assert_array_equal(left.ids, right.ids)
    np.testing.assert_array_equal(left.probs, right.probs)
