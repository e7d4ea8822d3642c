"""Convert the messages that begin a session to protobuf and back, as `rounds` does: `Open` and the scores of the prompt."""

from __future__ import annotations

import json
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from hedgespec.config import LimitsConfig
from hedgespec.errors import HedgeSpecError, InvalidObservation, ReplicaLost, RequestError
from hedgespec.rpc.convert.arrays import (
    MAX_SESSION_ID_LENGTH,
    float_bytes,
    read_ids,
    read_probs,
    read_rows,
    require,
    write_rows,
)
from hedgespec.rpc.convert.rounds import MAX_SCORE_DEPTH
from hedgespec.rpc.v1 import replica_pb2 as pb
from hedgespec.sampling.parameter import parameters, value_of, with_values
from hedgespec.types import (
    CHAIN,
    MAX_SPARSE_IDS,
    DraftForm,
    DraftKind,
    Opened,
    SamplingParams,
    ScoreDepth,
    SessionSpec,
    SparseRows,
)

MAX_SESSION_TOKENS = 1 << 19
"""Most ids in one `Open`; keeps the message under the 4 MiB cap of a frame."""

MAX_FEATURE_SINKS = 64
MAX_VOCAB = 1 << 31
MAX_BRANCHING = 64
MAX_PROMPT_SCORES = 256
"""Most rows of one prompt score; full rows stay well under the cap of a frame."""

_LIMITS = LimitsConfig(max_logit_bias=1 << 12)
_OWN_FIELDS = frozenset(pb.Sampling.DESCRIPTOR.fields_by_name)
"""The sampling parameters that have a field of their own on the wire."""

_KIND_NUMBERS = {kind: getattr(pb.DraftForm, f"KIND_{kind.upper()}") for kind in get_args(DraftKind)}
_KINDS: dict[pb.DraftForm.Kind, DraftKind] = {number: kind for kind, number in _KIND_NUMBERS.items()}


def write_open(message: pb.Open, spec: SessionSpec, lease_id: str = "") -> None:
    """Write what opens a session. Raises RequestError when it is too long for one message."""
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
    message.exact_scores = spec.score_depth != "depth1"
    message.own_round_scores = spec.score_depth == "own_rounds"
    message.lease_id = lease_id
    if spec.draft_form != CHAIN:
        message.draft_form.kind = _KIND_NUMBERS[spec.draft_form.kind]
        message.draft_form.branching = spec.draft_form.branching
    message.num_prompt_scores = spec.num_prompt_scores


def read_open(session_id: str, message: pb.Open) -> SessionSpec:
    """Read what opens a session. Raises RequestError."""
    error = RequestError
    require(0 < len(session_id) <= MAX_SESSION_ID_LENGTH, error, "session_id", f"of 1..{MAX_SESSION_ID_LENGTH} chars")
    num_tokens = len(message.prompt_ids) + len(message.emitted_ids)
    require(len(message.prompt_ids) > 0, error, "prompt_ids", "not empty")
    require(num_tokens <= MAX_SESSION_TOKENS, error, "prompt_ids + emitted_ids", f"at most {MAX_SESSION_TOKENS} ids")
    require(message.max_draft_tokens <= MAX_SCORE_DEPTH, error, "max_draft_tokens", f"at most {MAX_SCORE_DEPTH}")
    require(message.num_target_top <= MAX_SPARSE_IDS, error, "num_target_top", f"at most {MAX_SPARSE_IDS}")
    require(len(message.feature_sinks) <= MAX_FEATURE_SINKS, error, "feature_sinks", f"at most {MAX_FEATURE_SINKS}")
    require(message.num_prompt_scores <= MAX_PROMPT_SCORES, error, "num_prompt_scores", f"<= {MAX_PROMPT_SCORES}")
    return SessionSpec(
        session_id=session_id,
        prompt_ids=read_ids(message.prompt_ids, error, "prompt_ids"),
        emitted_ids=read_ids(message.emitted_ids, error, "emitted_ids"),
        sampling=_read_sampling(message.sampling),
        noise_seed=message.noise_seed,
        max_draft_tokens=message.max_draft_tokens,
        cache_salt=message.cache_salt,
        feature_sinks=tuple(message.feature_sinks),
        num_target_top=message.num_target_top,
        score_depth=_read_score_depth(message),
        draft_form=_read_form(message.draft_form),
        num_prompt_scores=message.num_prompt_scores,
    )


def write_opened(message: pb.Opened, opened: Opened) -> None:
    """Write the answer to `Open`."""
    message.num_cached_tokens = opened.num_cached_tokens
    if opened.prompt_top is not None:
        write_rows(message.prompt_top, opened.prompt_top)


def read_opened(message: pb.Opened) -> Opened:
    """Read the answer to `Open`. Raises ReplicaLost."""
    has_top = message.HasField("prompt_top")
    return Opened(message.num_cached_tokens, read_prompt_top(message.prompt_top, ReplicaLost) if has_top else None)


def read_prompt_top(message: pb.SparseRows, error: type[HedgeSpecError] = InvalidObservation) -> SparseRows:
    """Read the target's distributions of the prompt's last tokens. Raises `error`."""
    num_rows = len(message.lengths)
    require(num_rows <= MAX_PROMPT_SCORES, error, "prompt_top", f"at most {MAX_PROMPT_SCORES} rows")
    return read_rows(message, num_rows, error, is_complete=False)


def write_prompt_scores(message: pb.PromptScores, acceptance_prob: NDArray[np.float32]) -> None:
    """Write a drafter's scores of the prompt, one per row."""
    message.overlap = float_bytes(acceptance_prob)


def read_prompt_scores(message: pb.PromptScores) -> NDArray[np.float32]:
    """Read a drafter's scores of the prompt. Raises InvalidObservation."""
    num_rows, rest = divmod(len(message.overlap), 4)
    ok = rest == 0 and num_rows <= MAX_PROMPT_SCORES
    require(ok, InvalidObservation, "overlap", f"float32, at most {MAX_PROMPT_SCORES} rows")
    return read_probs(message.overlap, num_rows, InvalidObservation, "overlap")


def _write_sampling(message: pb.Sampling, sampling: SamplingParams) -> None:
    message.max_tokens = sampling.max_tokens
    if sampling.seed is not None:
        message.seed = sampling.seed
    for parameter in parameters():
        name, value = parameter.name, value_of(sampling, parameter)
        if name == "logit_bias":
            message.logit_bias.extend(pb.LogitBias(token_id=token_id, bias=bias) for token_id, bias in value)
        elif name in _OWN_FIELDS:
            setattr(message, name, value)
        elif value != parameter.neutral:
            message.others[name] = json.dumps(parameter.as_stated(value))


def _read_sampling(message: pb.Sampling) -> SamplingParams:
    """Read sampling parameters. The router decides where the answer ends; only max_tokens travels, to reserve KV memory."""
    error = RequestError
    require(1 <= message.max_tokens <= MAX_SESSION_TOKENS, error, "max_tokens", f"in 1..{MAX_SESSION_TOKENS}")
    known = {parameter.name: parameter for parameter in parameters()}
    require(known.keys() >= message.others.keys(), error, "others", f"of the parameters {', '.join(known)}")
    values = {}
    for name, parameter in known.items():
        if name in _OWN_FIELDS or name in message.others:
            try:
                stated = parameter.checked(_stated(message, name))
            except (ValueError, RecursionError):  # of JSON or pydantic
                raise RequestError(f"{name} on the wire has a value that is not allowed.") from None
            values[name] = parameter.read(stated, MAX_VOCAB, _LIMITS)
    seed = message.seed if message.HasField("seed") else None
    return with_values(SamplingParams(seed=seed, max_tokens=message.max_tokens), values)


def _stated(message: pb.Sampling, name: str) -> Any:
    if name == "logit_bias":
        return {str(entry.token_id): entry.bias for entry in message.logit_bias}
    return getattr(message, name) if name in _OWN_FIELDS else json.loads(message.others[name])


def _read_score_depth(message: pb.Open) -> ScoreDepth:
    if not message.exact_scores:
        return "depth1"
    return "own_rounds" if message.own_round_scores else "exact"


def _read_form(message: pb.DraftForm) -> DraftForm:
    """Read a draft form; an unset branching (0) is 1."""
    kind = _KINDS.get(message.kind)
    if kind is None:
        raise RequestError(f"draft_form on the wire has kind {message.kind}, which this replica does not support.")
    require(message.branching <= MAX_BRANCHING, RequestError, "branching", f"at most {MAX_BRANCHING}")
    return DraftForm(kind, message.branching or 1)
