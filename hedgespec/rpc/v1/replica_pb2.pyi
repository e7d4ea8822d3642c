from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Frame(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Item]
    def __init__(self, items: _Optional[_Iterable[_Union[Item, _Mapping]]] = ...) -> None: ...

class Item(_message.Message):
    __slots__ = ("session_id", "call_index", "drafter_ids", "open", "opened", "draft", "drafted", "verify", "verdict", "observe", "score", "close", "error", "score_prompt", "prompt_scores")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CALL_INDEX_FIELD_NUMBER: _ClassVar[int]
    DRAFTER_IDS_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    DRAFT_FIELD_NUMBER: _ClassVar[int]
    DRAFTED_FIELD_NUMBER: _ClassVar[int]
    VERIFY_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    OBSERVE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SCORE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_SCORES_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    call_index: int
    drafter_ids: _containers.RepeatedScalarFieldContainer[str]
    open: Open
    opened: Opened
    draft: Draft
    drafted: Drafted
    verify: Verify
    verdict: Verdict
    observe: Observe
    score: Score
    close: Close
    error: Error
    score_prompt: ScorePrompt
    prompt_scores: PromptScores
    def __init__(self, session_id: _Optional[str] = ..., call_index: _Optional[int] = ..., drafter_ids: _Optional[_Iterable[str]] = ..., open: _Optional[_Union[Open, _Mapping]] = ..., opened: _Optional[_Union[Opened, _Mapping]] = ..., draft: _Optional[_Union[Draft, _Mapping]] = ..., drafted: _Optional[_Union[Drafted, _Mapping]] = ..., verify: _Optional[_Union[Verify, _Mapping]] = ..., verdict: _Optional[_Union[Verdict, _Mapping]] = ..., observe: _Optional[_Union[Observe, _Mapping]] = ..., score: _Optional[_Union[Score, _Mapping]] = ..., close: _Optional[_Union[Close, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., score_prompt: _Optional[_Union[ScorePrompt, _Mapping]] = ..., prompt_scores: _Optional[_Union[PromptScores, _Mapping]] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("prompt_ids", "emitted_ids", "sampling", "noise_seed", "max_draft_tokens", "cache_salt", "feature_sinks", "num_target_top", "exact_scores", "lease_id", "draft_form", "num_prompt_scores", "own_round_scores")
    PROMPT_IDS_FIELD_NUMBER: _ClassVar[int]
    EMITTED_IDS_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    NOISE_SEED_FIELD_NUMBER: _ClassVar[int]
    MAX_DRAFT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHE_SALT_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SINKS_FIELD_NUMBER: _ClassVar[int]
    NUM_TARGET_TOP_FIELD_NUMBER: _ClassVar[int]
    EXACT_SCORES_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    DRAFT_FORM_FIELD_NUMBER: _ClassVar[int]
    NUM_PROMPT_SCORES_FIELD_NUMBER: _ClassVar[int]
    OWN_ROUND_SCORES_FIELD_NUMBER: _ClassVar[int]
    prompt_ids: _containers.RepeatedScalarFieldContainer[int]
    emitted_ids: _containers.RepeatedScalarFieldContainer[int]
    sampling: Sampling
    noise_seed: int
    max_draft_tokens: int
    cache_salt: str
    feature_sinks: _containers.RepeatedScalarFieldContainer[str]
    num_target_top: int
    exact_scores: bool
    lease_id: str
    draft_form: DraftForm
    num_prompt_scores: int
    own_round_scores: bool
    def __init__(self, prompt_ids: _Optional[_Iterable[int]] = ..., emitted_ids: _Optional[_Iterable[int]] = ..., sampling: _Optional[_Union[Sampling, _Mapping]] = ..., noise_seed: _Optional[int] = ..., max_draft_tokens: _Optional[int] = ..., cache_salt: _Optional[str] = ..., feature_sinks: _Optional[_Iterable[str]] = ..., num_target_top: _Optional[int] = ..., exact_scores: _Optional[bool] = ..., lease_id: _Optional[str] = ..., draft_form: _Optional[_Union[DraftForm, _Mapping]] = ..., num_prompt_scores: _Optional[int] = ..., own_round_scores: _Optional[bool] = ...) -> None: ...

class DraftForm(_message.Message):
    __slots__ = ("kind", "branching")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_CHAIN: _ClassVar[DraftForm.Kind]
        KIND_TREE: _ClassVar[DraftForm.Kind]
        KIND_IID: _ClassVar[DraftForm.Kind]
        KIND_DISTINCT: _ClassVar[DraftForm.Kind]
    KIND_CHAIN: DraftForm.Kind
    KIND_TREE: DraftForm.Kind
    KIND_IID: DraftForm.Kind
    KIND_DISTINCT: DraftForm.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    BRANCHING_FIELD_NUMBER: _ClassVar[int]
    kind: DraftForm.Kind
    branching: int
    def __init__(self, kind: _Optional[_Union[DraftForm.Kind, str]] = ..., branching: _Optional[int] = ...) -> None: ...

class Sampling(_message.Message):
    __slots__ = ("temperature", "top_p", "top_k", "seed", "logit_bias", "presence_penalty", "frequency_penalty", "repetition_penalty", "max_tokens", "others")
    class OthersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    LOGIT_BIAS_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_PENALTY_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_PENALTY_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OTHERS_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_p: float
    top_k: int
    seed: int
    logit_bias: _containers.RepeatedCompositeFieldContainer[LogitBias]
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    max_tokens: int
    others: _containers.ScalarMap[str, str]
    def __init__(self, temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., seed: _Optional[int] = ..., logit_bias: _Optional[_Iterable[_Union[LogitBias, _Mapping]]] = ..., presence_penalty: _Optional[float] = ..., frequency_penalty: _Optional[float] = ..., repetition_penalty: _Optional[float] = ..., max_tokens: _Optional[int] = ..., others: _Optional[_Mapping[str, str]] = ...) -> None: ...

class LogitBias(_message.Message):
    __slots__ = ("token_id", "bias")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    BIAS_FIELD_NUMBER: _ClassVar[int]
    token_id: int
    bias: float
    def __init__(self, token_id: _Optional[int] = ..., bias: _Optional[float] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("num_cached_tokens", "prompt_top")
    NUM_CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOP_FIELD_NUMBER: _ClassVar[int]
    num_cached_tokens: int
    prompt_top: SparseRows
    def __init__(self, num_cached_tokens: _Optional[int] = ..., prompt_top: _Optional[_Union[SparseRows, _Mapping]] = ...) -> None: ...

class Draft(_message.Message):
    __slots__ = ("num_draft_tokens", "num_nodes", "observation")
    NUM_DRAFT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_NODES_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    num_draft_tokens: int
    num_nodes: int
    observation: Observe
    def __init__(self, num_draft_tokens: _Optional[int] = ..., num_nodes: _Optional[int] = ..., observation: _Optional[_Union[Observe, _Mapping]] = ...) -> None: ...

class Drafted(_message.Message):
    __slots__ = ("tree", "compute_us")
    TREE_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_US_FIELD_NUMBER: _ClassVar[int]
    tree: DraftTree
    compute_us: int
    def __init__(self, tree: _Optional[_Union[DraftTree, _Mapping]] = ..., compute_us: _Optional[int] = ...) -> None: ...

class DraftTree(_message.Message):
    __slots__ = ("token_ids", "parent", "draft_probs")
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    DRAFT_PROBS_FIELD_NUMBER: _ClassVar[int]
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    parent: _containers.RepeatedScalarFieldContainer[int]
    draft_probs: SparseRows
    def __init__(self, token_ids: _Optional[_Iterable[int]] = ..., parent: _Optional[_Iterable[int]] = ..., draft_probs: _Optional[_Union[SparseRows, _Mapping]] = ...) -> None: ...

class SparseRows(_message.Message):
    __slots__ = ("lengths", "ids", "probs")
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    PROBS_FIELD_NUMBER: _ClassVar[int]
    lengths: _containers.RepeatedScalarFieldContainer[int]
    ids: bytes
    probs: bytes
    def __init__(self, lengths: _Optional[_Iterable[int]] = ..., ids: _Optional[bytes] = ..., probs: _Optional[bytes] = ...) -> None: ...

class Verify(_message.Message):
    __slots__ = ("tree",)
    TREE_FIELD_NUMBER: _ClassVar[int]
    tree: DraftTree
    def __init__(self, tree: _Optional[_Union[DraftTree, _Mapping]] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("accepted_nodes", "token_ids", "target_probs", "target_top", "compute_us")
    ACCEPTED_NODES_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    TARGET_PROBS_FIELD_NUMBER: _ClassVar[int]
    TARGET_TOP_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_US_FIELD_NUMBER: _ClassVar[int]
    accepted_nodes: _containers.RepeatedScalarFieldContainer[int]
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    target_probs: bytes
    target_top: SparseRows
    compute_us: int
    def __init__(self, accepted_nodes: _Optional[_Iterable[int]] = ..., token_ids: _Optional[_Iterable[int]] = ..., target_probs: _Optional[bytes] = ..., target_top: _Optional[_Union[SparseRows, _Mapping]] = ..., compute_us: _Optional[int] = ...) -> None: ...

class Observe(_message.Message):
    __slots__ = ("start", "token_ids", "target_probs", "target_top", "wants_scores", "score_from")
    START_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    TARGET_PROBS_FIELD_NUMBER: _ClassVar[int]
    TARGET_TOP_FIELD_NUMBER: _ClassVar[int]
    WANTS_SCORES_FIELD_NUMBER: _ClassVar[int]
    SCORE_FROM_FIELD_NUMBER: _ClassVar[int]
    start: int
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    target_probs: bytes
    target_top: SparseRows
    wants_scores: bool
    score_from: int
    def __init__(self, start: _Optional[int] = ..., token_ids: _Optional[_Iterable[int]] = ..., target_probs: _Optional[bytes] = ..., target_top: _Optional[_Union[SparseRows, _Mapping]] = ..., wants_scores: _Optional[bool] = ..., score_from: _Optional[int] = ...) -> None: ...

class Score(_message.Message):
    __slots__ = ("start", "depth", "acceptance", "acceptance_prob")
    START_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_PROB_FIELD_NUMBER: _ClassVar[int]
    start: int
    depth: int
    acceptance: bytes
    acceptance_prob: bytes
    def __init__(self, start: _Optional[int] = ..., depth: _Optional[int] = ..., acceptance: _Optional[bytes] = ..., acceptance_prob: _Optional[bytes] = ...) -> None: ...

class ScorePrompt(_message.Message):
    __slots__ = ("prompt_top",)
    PROMPT_TOP_FIELD_NUMBER: _ClassVar[int]
    prompt_top: SparseRows
    def __init__(self, prompt_top: _Optional[_Union[SparseRows, _Mapping]] = ...) -> None: ...

class PromptScores(_message.Message):
    __slots__ = ("overlap",)
    OVERLAP_FIELD_NUMBER: _ClassVar[int]
    overlap: bytes
    def __init__(self, overlap: _Optional[bytes] = ...) -> None: ...

class Close(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Error(_message.Message):
    __slots__ = ("kind", "message", "in_reply_to")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Error.Kind]
        KIND_BUSY: _ClassVar[Error.Kind]
        KIND_UNKNOWN_SESSION: _ClassVar[Error.Kind]
        KIND_INVALID_DRAFT: _ClassVar[Error.Kind]
        KIND_INVALID_OBSERVATION: _ClassVar[Error.Kind]
        KIND_INVALID_REQUEST: _ClassVar[Error.Kind]
        KIND_INTERNAL: _ClassVar[Error.Kind]
    KIND_UNSPECIFIED: Error.Kind
    KIND_BUSY: Error.Kind
    KIND_UNKNOWN_SESSION: Error.Kind
    KIND_INVALID_DRAFT: Error.Kind
    KIND_INVALID_OBSERVATION: Error.Kind
    KIND_INVALID_REQUEST: Error.Kind
    KIND_INTERNAL: Error.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    IN_REPLY_TO_FIELD_NUMBER: _ClassVar[int]
    kind: Error.Kind
    message: str
    in_reply_to: int
    def __init__(self, kind: _Optional[_Union[Error.Kind, str]] = ..., message: _Optional[str] = ..., in_reply_to: _Optional[int] = ...) -> None: ...

class FeatureBlock(_message.Message):
    __slots__ = ("session_id", "start_position", "num_positions", "width", "bfloat16", "rows")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    START_POSITION_FIELD_NUMBER: _ClassVar[int]
    NUM_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    BFLOAT16_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    start_position: int
    num_positions: int
    width: int
    bfloat16: bool
    rows: bytes
    def __init__(self, session_id: _Optional[str] = ..., start_position: _Optional[int] = ..., num_positions: _Optional[int] = ..., width: _Optional[int] = ..., bfloat16: _Optional[bool] = ..., rows: _Optional[bytes] = ...) -> None: ...

class PushSummary(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
