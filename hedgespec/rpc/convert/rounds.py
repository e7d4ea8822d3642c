"""Convert the messages of a round to protobuf and back: drafts, verdicts, observations and scores.

`write_*` fills a message in place. `read_*` returns a well-formed noun whatever a peer sends, or raises the error that its
docstring names.
"""

from __future__ import annotations

import numpy as np

from hedgespec.errors import HedgeSpecError, InvalidDraft, InvalidObservation, ReplicaLost, RequestError
from hedgespec.rpc.convert.arrays import float_bytes, read_ids, read_probs, read_rows, require, write_rows
from hedgespec.rpc.v1 import replica_pb2 as pb
from hedgespec.types import DraftRequest, DraftTree, Observation, Scores, SparseRows, Verdict

MAX_DRAFT_NODES = 256
MAX_OBSERVED_TOKENS = 1 << 14
MAX_SCORE_DEPTH = 64


def write_tree(message: pb.DraftTree, tree: DraftTree) -> None:
    """Write a draft; the parents of a chain are left out."""
    message.token_ids.extend(tree.token_ids.tolist())
    if not tree.is_chain:
        message.parent.extend(tree.parent.tolist())
    if tree.draft_probs is not None:
        write_rows(message.draft_probs, tree.draft_probs)


def write_draft_request(message: pb.Draft, request: DraftRequest) -> None:
    """Write a draft request; its session, round and drafter travel in the item around the message."""
    message.num_draft_tokens = request.num_draft_tokens
    message.num_nodes = request.num_nodes
    if request.observation is not None:
        write_observation(message.observation, request.observation)


def read_draft_request(session_id: str, round_index: int, message: pb.Draft, drafter_id: str) -> DraftRequest:
    """Read a draft request. Raises RequestError, InvalidObservation."""
    num_tokens, num_nodes = message.num_draft_tokens, message.num_nodes
    if max(num_tokens, num_nodes) > MAX_DRAFT_NODES:
        raise RequestError(f"num_draft_tokens is {num_tokens} and num_nodes {num_nodes}, at most {MAX_DRAFT_NODES}.")
    observation = read_observation(message.observation) if message.HasField("observation") else None
    return DraftRequest(session_id, round_index, num_tokens, num_nodes, observation, drafter_id)


def write_drafted(message: pb.Drafted, tree: DraftTree, compute_s: float) -> None:
    """Write a drafter's answer. compute_s: seconds that the replica took."""
    message.compute_us = int(1e6 * compute_s)
    write_tree(message.tree, tree)


def read_drafted(message: pb.Drafted, drafter_id: str) -> DraftTree:
    """Read a drafter's answer. Raises InvalidDraft."""
    return read_tree(message.tree, drafter_id, message.compute_us * 1e-6)


def read_tree(message: pb.DraftTree, drafter_id: str, compute_s: float = 0.0) -> DraftTree:
    """Read a draft. Raises InvalidDraft."""
    error = InvalidDraft
    num_nodes = len(message.token_ids)
    require(num_nodes <= MAX_DRAFT_NODES, error, "token_ids", f"at most {MAX_DRAFT_NODES} nodes")
    require(len(message.parent) in (0, num_nodes), error, "parent", f"empty or {num_nodes} long")
    token_ids = read_ids(message.token_ids, error, "token_ids")
    if message.parent:
        parent = np.array(message.parent, dtype=np.int32)
        is_tree = bool(np.all(parent < np.arange(num_nodes)) and np.all(parent >= -1))
        require(is_tree, error, "parent", "an earlier node")
    else:
        parent = np.arange(-1, num_nodes - 1, dtype=np.int32)
    has_probs = message.HasField("draft_probs")
    draft_probs = read_rows(message.draft_probs, num_nodes, error, is_complete=True) if has_probs else None
    return DraftTree(token_ids, parent, draft_probs, drafter_id, compute_s)


def write_verdict(message: pb.Verdict, verdict: Verdict, compute_s: float = 0.0) -> None:
    """Write a target's verdict. compute_s: seconds that the replica took."""
    message.compute_us = int(1e6 * compute_s)
    message.accepted_nodes.extend(verdict.accepted_nodes.tolist())
    message.token_ids.extend(verdict.token_ids.tolist())
    message.target_probs = float_bytes(verdict.target_probs)
    if verdict.target_top is not None:
        write_rows(message.target_top, verdict.target_top)


def read_verdict(message: pb.Verdict) -> Verdict:
    """Read a verdict. Raises ReplicaLost: a target whose verdicts are malformed cannot be trusted with the session."""
    error = ReplicaLost
    num_emitted = len(message.token_ids)
    require(0 < num_emitted <= MAX_DRAFT_NODES + 1, error, "token_ids", f"1..{MAX_DRAFT_NODES + 1} tokens")
    accepted_nodes = message.accepted_nodes[:]
    require(len(accepted_nodes) == num_emitted - 1, error, "accepted_nodes", "one fewer than the tokens")
    require(max(accepted_nodes, default=0) < MAX_DRAFT_NODES, error, "accepted_nodes", "draft nodes")
    return Verdict(
        accepted_nodes=np.array(accepted_nodes, dtype=np.int32),
        token_ids=read_ids(message.token_ids, error, "token_ids"),
        target_probs=read_probs(message.target_probs, num_emitted, error, "target_probs"),
        target_top=_read_top(message, num_emitted, error),
        compute_s=message.compute_us * 1e-6,
    )


def write_observation(message: pb.Observe, observation: Observation) -> None:
    """Write verified tokens."""
    message.start = observation.start
    message.token_ids.extend(observation.token_ids.tolist())
    message.target_probs = float_bytes(observation.target_probs)
    if observation.target_top is not None:
        write_rows(message.target_top, observation.target_top)
    message.wants_scores = observation.wants_scores
    if observation.score_from is not None:
        message.score_from = observation.score_from


def read_observation(message: pb.Observe) -> Observation:
    """Read verified tokens. Raises InvalidObservation."""
    error = InvalidObservation
    start, score_from = message.start, None
    token_ids = read_ids(message.token_ids, error, "token_ids")
    num_tokens = len(token_ids)
    if num_tokens > MAX_OBSERVED_TOKENS or start >= 2**31:
        raise error(f"{num_tokens} tokens from {start} on; an observation has at most {MAX_OBSERVED_TOKENS}.")
    if message.HasField("score_from"):
        score_from = message.score_from
        num_scored = start - score_from + num_tokens
        require(num_scored >= 0, error, "score_from", "at most where the observation ends")
        require(num_scored <= MAX_OBSERVED_TOKENS, error, "score_from", f"at most {MAX_OBSERVED_TOKENS} tokens back")
    return Observation(
        start,
        token_ids,
        read_probs(message.target_probs, num_tokens, error, "target_probs"),
        _read_top(message, num_tokens, error),
        message.wants_scores,
        score_from,
    )


def write_scores(message: pb.Score, scores: Scores | None) -> None:
    """Write scores; None, when none were wanted, is a message of depth 0."""
    if scores is None:
        return
    message.start = scores.start
    message.depth = scores.acceptance.shape[1]
    message.acceptance = float_bytes(scores.acceptance)
    if scores.acceptance_prob is not None:
        message.acceptance_prob = float_bytes(scores.acceptance_prob)


def read_scores(message: pb.Score) -> Scores | None:
    """Read scores; depth 0 is None. Raises InvalidObservation."""
    error = InvalidObservation
    depth = message.depth
    if depth == 0:
        return None
    start, data = message.start, message.acceptance
    if depth > MAX_SCORE_DEPTH or start >= 2**31:
        raise error(f"scores of depth {depth} from {start} on; the depth is at most {MAX_SCORE_DEPTH}.")
    num_tokens, rest = divmod(len(data), 4 * depth)
    if rest or num_tokens > MAX_OBSERVED_TOKENS:
        raise error(f"acceptance on the wire must be float32 [num_tokens, {depth}].")
    acceptance = read_probs(data, num_tokens * depth, error, "acceptance").reshape(num_tokens, depth)
    acceptance_prob = None
    if message.acceptance_prob:
        # for a token outside of the sent ids the unbiased estimator adds min(1, q/p), so values go up to 2
        flat = read_probs(message.acceptance_prob, num_tokens * depth, error, "acceptance_prob", maximum=2.0)
        acceptance_prob = flat.reshape(num_tokens, depth)
    return Scores(start, acceptance, acceptance_prob)


def _read_top(message: pb.Verdict | pb.Observe, num_rows: int, error: type[HedgeSpecError]) -> SparseRows | None:
    if not message.HasField("target_top"):
        return None
    return read_rows(message.target_top, num_rows, error, is_complete=False)
