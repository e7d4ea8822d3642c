"""Nouns <-> protobuf. `write_*` fills a message in place, `read_*` checks in Python integers first and then converts.

Whatever a peer sends, a `read_*` function returns a well-formed noun or raises the exception in its docstring.
Checks that need the model (ids below the vocabulary, positions that fit the session) are the model's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from hedgespec.errors import HedgeSpecError, InvalidDraft, InvalidObservation, ReplicaLost, RequestError
from hedgespec.rpc.v1 import replica_pb2 as pb
from hedgespec.types import (
    CHAIN,
    MAX_SPARSE_IDS,
    DraftForm,
    DraftKind,
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

MAX_SESSION_TOKENS = 1 << 19
"""Ids in one `Open`; keeps the message under the 4 MiB cap of a frame."""

MAX_DRAFT_NODES = 256
MAX_OBSERVED_TOKENS = 1 << 14
MAX_SCORE_DEPTH = 64
MAX_FEATURE_WIDTH = 1 << 17
MAX_SESSION_ID_LENGTH = 128
MAX_FEATURE_SINKS = 64
MAX_LOGIT_BIAS = 1 << 12
MAX_BRANCHING = 64
MAX_PROMPT_SCORES = 256
"""Rows of one prompt score; with full rows they stay well under the cap of a frame."""

SUM_TOLERANCE = 1e-3

_KINDS: dict[pb.DraftForm.Kind, DraftKind] = {
    pb.DraftForm.KIND_CHAIN: "chain",
    pb.DraftForm.KIND_TREE: "tree",
    pb.DraftForm.KIND_IID: "iid",
    pb.DraftForm.KIND_DISTINCT: "distinct",
}
_KIND_NUMBERS = {kind: number for number, kind in _KINDS.items()}

SMALL = 64
"""Up to so many numbers are checked faster in Python than by two NumPy reductions."""

_F4, _I4 = np.dtype("<f4"), np.dtype("<i4")


def write_open(message: pb.Open, spec: SessionSpec, lease_id: str = "") -> None:
    """Raises RequestError when the session is too long for one message."""
    if spec.num_tokens > MAX_SESSION_TOKENS:
        raise RequestError(
            f"A session of {spec.num_tokens} tokens does not fit into one message; at most {MAX_SESSION_TOKENS} do.",
            code="context_length_exceeded",
        )
    message.prompt_ids.extend(spec.prompt_ids.tolist())
    message.emitted_ids.extend(spec.emitted_ids.tolist())
    _write_sampling(message.sampling, spec.sampling)
    message.noise_seed = spec.noise_seed
    message.max_draft_tokens = spec.max_draft_tokens
    message.cache_salt = spec.cache_salt
    message.feature_sinks.extend(spec.feature_sinks)
    message.num_target_top = spec.num_target_top
    message.exact_scores = spec.score_depth == "exact"
    message.lease_id = lease_id
    if spec.draft_form != CHAIN:
        message.draft_form.kind = _KIND_NUMBERS[spec.draft_form.kind]
        message.draft_form.branching = spec.draft_form.branching
    message.num_prompt_scores = spec.num_prompt_scores


def read_open(session_id: str, message: pb.Open) -> SessionSpec:
    """Raises RequestError."""
    error = RequestError
    _require(0 < len(session_id) <= MAX_SESSION_ID_LENGTH, error, "session_id", f"of 1..{MAX_SESSION_ID_LENGTH} chars")
    num_tokens = len(message.prompt_ids) + len(message.emitted_ids)
    _require(len(message.prompt_ids) > 0, error, "prompt_ids", "not empty")
    _require(num_tokens <= MAX_SESSION_TOKENS, error, "prompt_ids + emitted_ids", f"at most {MAX_SESSION_TOKENS} ids")
    _require(message.max_draft_tokens <= MAX_SCORE_DEPTH, error, "max_draft_tokens", f"at most {MAX_SCORE_DEPTH}")
    _require(message.num_target_top <= MAX_SPARSE_IDS, error, "num_target_top", f"at most {MAX_SPARSE_IDS}")
    _require(len(message.feature_sinks) <= MAX_FEATURE_SINKS, error, "feature_sinks", f"at most {MAX_FEATURE_SINKS}")
    _require(message.num_prompt_scores <= MAX_PROMPT_SCORES, error, "num_prompt_scores", f"<= {MAX_PROMPT_SCORES}")
    return SessionSpec(
        session_id=session_id,
        prompt_ids=_read_ids(message.prompt_ids, error, "prompt_ids"),
        emitted_ids=_read_ids(message.emitted_ids, error, "emitted_ids"),
        sampling=_read_sampling(message.sampling),
        noise_seed=message.noise_seed,
        max_draft_tokens=message.max_draft_tokens,
        cache_salt=message.cache_salt,
        feature_sinks=tuple(message.feature_sinks),
        num_target_top=message.num_target_top,
        score_depth="exact" if message.exact_scores else "depth1",
        draft_form=_read_form(message.draft_form),
        num_prompt_scores=message.num_prompt_scores,
    )


def write_opened(message: pb.Opened, opened: Opened) -> None:
    message.num_cached_tokens = opened.num_cached_tokens
    if opened.prompt_top is not None:
        _write_rows(message.prompt_top, opened.prompt_top)


def read_opened(message: pb.Opened) -> Opened:
    """Raises ReplicaLost."""
    prompt_top = None
    if message.HasField("prompt_top"):
        prompt_top = _read_prompt_top(message.prompt_top, ReplicaLost)
    return Opened(num_cached_tokens=message.num_cached_tokens, prompt_top=prompt_top)


def write_score_prompt(message: pb.ScorePrompt, prompt_top: SparseRows) -> None:
    _write_rows(message.prompt_top, prompt_top)


def read_score_prompt(message: pb.ScorePrompt) -> SparseRows:
    """Raises InvalidObservation."""
    return _read_prompt_top(message.prompt_top, InvalidObservation)


def write_prompt_scores(message: pb.PromptScores, overlap: NDArray[np.float32]) -> None:
    message.overlap = _float_bytes(overlap)


def read_prompt_scores(message: pb.PromptScores) -> NDArray[np.float32]:
    """Raises InvalidObservation."""
    num_rows, rest = divmod(len(message.overlap), 4)
    ok = rest == 0 and num_rows <= MAX_PROMPT_SCORES
    _require(ok, InvalidObservation, "overlap", f"float32, at most {MAX_PROMPT_SCORES} rows")
    return _read_probs(message.overlap, num_rows, InvalidObservation, "overlap")


def write_tree(message: pb.DraftTree, tree: DraftTree) -> None:
    message.token_ids.extend(tree.token_ids.tolist())
    parent = tree.parent.tolist()
    if parent != list(range(-1, len(parent) - 1)):  # not a chain
        message.parent.extend(parent)
    if tree.draft_probs is not None:
        _write_rows(message.draft_probs, tree.draft_probs)


def write_drafted(message: pb.Drafted, tree: DraftTree, compute_s: float) -> None:
    message.compute_us = int(1e6 * compute_s)
    write_tree(message.tree, tree)


def read_drafted(message: pb.Drafted, drafter_id: str) -> DraftTree:
    """Raises InvalidDraft."""
    return read_tree(message.tree, drafter_id, message.compute_us * 1e-6)


def read_tree(message: pb.DraftTree, drafter_id: str, compute_s: float = 0.0) -> DraftTree:
    """Raises InvalidDraft."""
    error = InvalidDraft
    num_nodes = len(message.token_ids)
    _require(num_nodes <= MAX_DRAFT_NODES, error, "token_ids", f"at most {MAX_DRAFT_NODES} nodes")
    _require(len(message.parent) in (0, num_nodes), error, "parent", f"empty or {num_nodes} long")
    token_ids = _read_ids(message.token_ids, error, "token_ids")
    if message.parent:
        parent = np.array(message.parent, dtype=np.int32)
        _require(
            bool(np.all(parent < np.arange(num_nodes)) and np.all(parent >= -1)), error, "parent", "an earlier node"
        )
    else:
        parent = np.arange(-1, num_nodes - 1, dtype=np.int32)
    draft_probs = None
    if message.HasField("draft_probs"):
        draft_probs = _read_rows(message.draft_probs, num_nodes, error, is_complete=True)
    return DraftTree(token_ids, parent, draft_probs, drafter_id, compute_s)


def write_verdict(message: pb.Verdict, verdict: Verdict, compute_s: float = 0.0) -> None:
    message.compute_us = int(1e6 * compute_s)
    message.accepted_nodes.extend(verdict.accepted_nodes.tolist())
    message.token_ids.extend(verdict.token_ids.tolist())
    message.target_probs = _float_bytes(verdict.target_probs)
    if verdict.target_top is not None:
        _write_rows(message.target_top, verdict.target_top)


def read_verdict(message: pb.Verdict) -> Verdict:
    """Raises ReplicaLost: a target whose verdicts are malformed cannot be trusted with the session."""
    error = ReplicaLost
    num_emitted = len(message.token_ids)
    _require(0 < num_emitted <= MAX_DRAFT_NODES + 1, error, "token_ids", f"1..{MAX_DRAFT_NODES + 1} tokens")
    accepted_nodes = message.accepted_nodes[:]
    _require(len(accepted_nodes) == num_emitted - 1, error, "accepted_nodes", "one fewer than the tokens")
    _require(max(accepted_nodes, default=0) < MAX_DRAFT_NODES, error, "accepted_nodes", "draft nodes")
    return Verdict(
        accepted_nodes=np.array(accepted_nodes, dtype=np.int32),
        token_ids=_read_ids(message.token_ids, error, "token_ids"),
        target_probs=_read_probs(message.target_probs, num_emitted, error, "target_probs"),
        target_top=_read_top(message, num_emitted, error),
        compute_s=message.compute_us * 1e-6,
    )


def write_observation(message: pb.Observe, observation: Observation) -> None:
    message.start = observation.start
    message.token_ids.extend(observation.token_ids.tolist())
    message.target_probs = _float_bytes(observation.target_probs)
    if observation.target_top is not None:
        _write_rows(message.target_top, observation.target_top)
    message.wants_scores = observation.wants_scores
    if observation.score_from is not None:
        message.score_from = observation.score_from


def read_observation(message: pb.Observe) -> Observation:
    """Raises InvalidObservation."""
    error = InvalidObservation
    start, score_from = message.start, None
    token_ids = _read_ids(message.token_ids, error, "token_ids")
    num_tokens = len(token_ids)
    if num_tokens > MAX_OBSERVED_TOKENS or start >= 2**31:
        raise error(f"{num_tokens} tokens from {start} on; an observation has at most {MAX_OBSERVED_TOKENS}.")
    if message.HasField("score_from"):
        score_from = message.score_from
        num_scored = start - score_from + num_tokens
        _require(num_scored >= 0, error, "score_from", "at most where the observation ends")
        _require(num_scored <= MAX_OBSERVED_TOKENS, error, "score_from", f"at most {MAX_OBSERVED_TOKENS} tokens back")
    return Observation(
        start,
        token_ids,
        _read_probs(message.target_probs, num_tokens, error, "target_probs"),
        _read_top(message, num_tokens, error),
        message.wants_scores,
        score_from,
    )


def write_scores(message: pb.Score, scores: Scores | None) -> None:
    """None (nobody wanted them) is a message of depth 0."""
    message.SetInParent()
    if scores is None:
        return
    message.start = scores.start
    message.depth = scores.acceptance.shape[1]
    message.acceptance = _float_bytes(scores.acceptance)
    if scores.acceptance_prob is not None:
        message.acceptance_prob = _float_bytes(scores.acceptance_prob)


def read_scores(message: pb.Score) -> Scores | None:
    """Raises InvalidObservation."""
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
    acceptance = _read_probs(data, num_tokens * depth, error, "acceptance").reshape(num_tokens, depth)
    acceptance_prob = None
    if message.acceptance_prob:
        # the unbiased estimator adds min(1, q/p) for a token outside of the ids that were sent: up to 2
        flat = _read_probs(message.acceptance_prob, num_tokens * depth, error, "acceptance_prob", maximum=2.0)
        acceptance_prob = flat.reshape(num_tokens, depth)
    return Scores(start, acceptance, acceptance_prob)


def write_features(block: FeatureBlock) -> pb.FeatureBlock:
    num_positions, width = block.rows.shape
    is_bfloat16 = block.rows.dtype == np.uint16
    rows = np.asarray(block.rows, dtype="<u2" if is_bfloat16 else "<f4")
    return pb.FeatureBlock(
        session_id=block.session_id,
        start_position=block.start_position,
        num_positions=num_positions,
        width=width,
        bfloat16=is_bfloat16,
        rows=rows.tobytes(),
    )


def read_features(message: pb.FeatureBlock) -> FeatureBlock:
    """Raises InvalidObservation. The rows are a read-only view of the message's bytes."""
    error = InvalidObservation
    item_bytes = 2 if message.bfloat16 else 4
    size_bytes = message.num_positions * message.width * item_bytes
    _require(0 < len(message.session_id) <= MAX_SESSION_ID_LENGTH, error, "session_id", "not empty")
    _require(0 < message.width <= MAX_FEATURE_WIDTH, error, "width", f"1..{MAX_FEATURE_WIDTH}")
    _require(message.start_position < 2**31, error, "start_position", "a position")
    _require(len(message.rows) == size_bytes, error, "rows", f"{size_bytes} bytes long")
    rows = np.frombuffer(message.rows, dtype="<u2" if message.bfloat16 else "<f4")
    return FeatureBlock(message.session_id, message.start_position, rows.reshape(message.num_positions, message.width))


def _write_sampling(message: pb.Sampling, sampling: SamplingParams) -> None:
    message.temperature = sampling.temperature
    message.top_p = sampling.top_p
    message.top_k = sampling.top_k
    if sampling.seed is not None:
        message.seed = sampling.seed
    for token_id, bias in sampling.logit_bias:
        message.logit_bias.add(token_id=token_id, bias=bias)
    message.presence_penalty = sampling.presence_penalty
    message.frequency_penalty = sampling.frequency_penalty
    message.repetition_penalty = sampling.repetition_penalty
    message.max_tokens = sampling.max_tokens


def _read_sampling(message: pb.Sampling) -> SamplingParams:
    """Where the answer ends is the router's business: of that only max_tokens travels, for KV memory."""
    error = RequestError
    _require(0.0 <= message.temperature <= 100.0, error, "temperature", "in 0..100")
    _require(0.0 < message.top_p <= 1.0, error, "top_p", "in (0, 1]")
    _require(message.top_k < 2**31, error, "top_k", "an id count")
    _require(abs(message.presence_penalty) <= 100.0, error, "presence_penalty", "in -100..100")
    _require(abs(message.frequency_penalty) <= 100.0, error, "frequency_penalty", "in -100..100")
    _require(0.0 < message.repetition_penalty <= 100.0, error, "repetition_penalty", "in (0, 100]")
    _require(1 <= message.max_tokens <= MAX_SESSION_TOKENS, error, "max_tokens", f"in 1..{MAX_SESSION_TOKENS}")
    _require(len(message.logit_bias) <= MAX_LOGIT_BIAS, error, "logit_bias", f"at most {MAX_LOGIT_BIAS} entries")
    for entry in message.logit_bias:
        _require(entry.token_id >= 0 and math.isfinite(entry.bias), error, "logit_bias", "an id and a finite bias")
    return SamplingParams(
        temperature=message.temperature,
        top_p=message.top_p,
        top_k=message.top_k,
        seed=message.seed if message.HasField("seed") else None,
        logit_bias=tuple((entry.token_id, entry.bias) for entry in message.logit_bias),
        presence_penalty=message.presence_penalty,
        frequency_penalty=message.frequency_penalty,
        repetition_penalty=message.repetition_penalty,
        max_tokens=message.max_tokens,
    )


def _read_form(message: pb.DraftForm) -> DraftForm:
    """A branching of 0 is that of a sender that knows chains only."""
    kind = _KINDS.get(message.kind)
    if kind is None:
        raise RequestError(f"draft_form on the wire has kind {message.kind}, which this replica does not know.")
    _require(message.branching <= MAX_BRANCHING, RequestError, "branching", f"at most {MAX_BRANCHING}")
    return DraftForm(kind, message.branching or 1)


def _read_prompt_top(message: pb.SparseRows, error: type[HedgeSpecError]) -> SparseRows:
    num_rows = len(message.lengths)
    _require(num_rows <= MAX_PROMPT_SCORES, error, "prompt_top", f"at most {MAX_PROMPT_SCORES} rows")
    return _read_rows(message, num_rows, error, is_complete=False)


def _write_rows(message: pb.SparseRows, rows: SparseRows) -> None:
    message.lengths.extend(np.diff(rows.offsets).tolist())
    message.ids = np.asarray(rows.ids, dtype="<i4").tobytes()
    message.probs = _float_bytes(rows.probs)


def _read_rows(message: pb.SparseRows, num_rows: int, error: type[HedgeSpecError], *, is_complete: bool) -> SparseRows:
    """is_complete: every row must sum to 1 (a draft distribution), else at most to 1 (a target's top ids)."""
    lengths = message.lengths[:]
    _require(len(lengths) == num_rows, error, "lengths", f"{num_rows} long")
    _require(max(lengths, default=0) <= MAX_SPARSE_IDS, error, "lengths", f"at most {MAX_SPARSE_IDS} each")
    num_entries = sum(lengths)
    _require(len(message.ids) == 4 * num_entries, error, "ids", f"{4 * num_entries} bytes long")
    ids = np.frombuffer(message.ids, _I4)
    probs = np.frombuffer(message.probs, _F4) if len(message.probs) % 4 == 0 else np.zeros(0, np.float32)
    _require(len(probs) == num_entries, error, "probs", f"{4 * num_entries} bytes long")
    offsets = np.array([0, *accumulate(lengths)], dtype=np.int32)
    _require(not is_complete or all(lengths), error, "lengths", "positive")
    if num_entries:
        _require(bool(np.minimum.reduce(ids) >= 0), error, "ids", "non-negative")
        cumulated = np.zeros(num_entries + 1)
        np.cumsum(probs, dtype=np.float64, out=cumulated[1:])
        # the smallest of anything and a NaN is a NaN; without negative entries a row's sum bounds each of them
        is_ok = np.minimum.reduce(probs) >= 0.0 and cumulated[-1] <= num_rows * (1.0 + SUM_TOLERANCE)
        _require(bool(is_ok), error, "probs", "finite and in 0..1")
        bounds = cumulated[offsets]
        sums = (bounds[1:] - bounds[:-1]).tolist()
        _require(max(sums) <= 1.0 + SUM_TOLERANCE, error, "probs", "rows that sum to at most 1")
        _require(not is_complete or min(sums) >= 1.0 - SUM_TOLERANCE, error, "probs", "rows that sum to 1")
    return SparseRows(offsets, ids, probs)


def _read_top(message: pb.Verdict | pb.Observe, num_rows: int, error: type[HedgeSpecError]) -> SparseRows | None:
    if not message.HasField("target_top"):
        return None
    return _read_rows(message.target_top, num_rows, error, is_complete=False)


def _read_ids(values: Sequence[int], error: type[HedgeSpecError], name: str) -> NDArray[np.int32]:
    listed = values[:]  # a list: NumPy reads a repeated field item by item
    if listed and min(listed) < 0:
        raise error(f"{name} on the wire must be non-negative.")
    return np.array(listed, dtype=np.int32)


def _read_probs(
    data: bytes, count: int, error: type[HedgeSpecError], name: str, maximum: float = 1.0
) -> NDArray[np.float32]:
    if len(data) != 4 * count:
        raise error(f"{name} on the wire must be {4 * count} bytes long.")
    probs = np.frombuffer(data, _F4)
    if count == 0:
        return probs
    limit = maximum + SUM_TOLERANCE
    # a sum refuses NaN, which min and max may overlook; short arrays are faster in Python
    values = probs.tolist() if count <= SMALL else (float(probs.min()), float(probs.max()), float(probs.sum()) / count)
    if not (min(values) >= 0.0 and max(values) <= limit and sum(values) <= limit * len(values)):
        raise error(f"{name} on the wire must be finite and in 0..{maximum:g}.")
    return probs


def _float_bytes(values: NDArray[np.float32]) -> bytes:
    return np.asarray(values, _F4).tobytes()


def _require(condition: bool, error: type[HedgeSpecError], name: str, rule: str) -> None:
    if not condition:
        raise error(f"{name} on the wire must be {rule}.")
