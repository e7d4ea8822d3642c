"""The nouns of HedgeSpec, NumPy only. Read this file first, then `router/decode_loop.py`.

Positions. A session's ids are `prompt_ids` followed by the emitted ids; `position` counts from the first prompt token
and `output_index` from the first emitted token (`position = num_prompt_tokens + output_index`). Between rounds the
target holds KV rows and features for every id but the last one, which is the first row of the next verify block.

Depth. The token that a round starting at output index t proposes as its j-th (j = 1, 2, ...) would stand at output
index t + j - 1. Arrays "by position and depth" put the realised token's output index first: entry [p, j - 1] belongs to
the round that starts at p - j + 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Method = Literal["greedy", "rejection", "coupled"]
ScoreDepth = Literal["depth1", "own_rounds", "exact"]
DraftKind = Literal["chain", "tree", "iid", "distinct"]

MAX_SPARSE_IDS = 512
"""Longest truncated distribution that travels (design 3, invariant 4)."""

SPARSE_MASS = 0.99
"""A drafter samples from the smallest set of ids with at least this probability mass."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the target's distribution is shaped and when the answer ends.

    What shapes the distribution is defined in `hedgespec.sampling`, one parameter per file; the defaults here are the
    neutral values there.

    temperature: 0 is greedy. top_k: 0 is off. repetition_penalty: 1 is off.
    seed: set -> `coupled` verification, the text is a function of prompt, seed, parameters and target alone.
    logit_bias: (token id, bias) pairs, each id in [0, vocab).
    others: (name, value) of sampling parameters that have no attribute here, see `sampling.parameter`
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logit_bias: tuple[tuple[int, float], ...] = ()
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    others: tuple[tuple[str, Any], ...] = ()

    @property
    def method(self) -> Method:
        """The verification method that temperature and seed imply."""
        if self.temperature == 0.0:
            return "greedy"
        return "rejection" if self.seed is None else "coupled"


@dataclass(frozen=True, slots=True)
class DraftForm:
    """The layout of a draft.

    kind:      chain; tree: dynamic tree of EAGLE-2/3, a deterministic function of the drafter (top-k expansion, the best
               num_nodes are kept); iid: `branching` independent chains; distinct: `branching` chains whose first tokens
               are drawn without replacement
    branching: children that are expanded per node of a tree, or the number of chains; 1 for a chain
    """

    kind: DraftKind = "chain"
    branching: int = 1


CHAIN = DraftForm()


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """Everything that a replica needs to open a session. `prompt_ids` and `emitted_ids` stay separate: penalties need the
    emitted ids alone, and a session that moves to another replica opens there like any other.

    noise_seed:    64-bit key of all randomness of the session (the request's seed, or a random one); under `rejection`
                   each drafter is opened with a key of its own, so that drafts of several can be merged
    feature_sinks: addresses that the target pushes hidden features to; empty for drafters, and when no drafter uses them
    num_target_top: ids of the target's distribution that travel per emitted token (0: only its probability)
    score_depth:   `depth1` scores each position as if it were drafted first; `exact` unrolls every start (design 5);
                   `own_rounds` only the starts of the drafter's own rounds, the only ones that the objective `rounds` reads
    draft_form:    the form of the drafts that `draft` returns and that are scored
    num_prompt_scores: the number of last prompt tokens whose top ids the target's `open` returns (`Opened.prompt_top`)
    """

    session_id: str
    prompt_ids: NDArray[np.int32]
    emitted_ids: NDArray[np.int32]
    sampling: SamplingParams
    noise_seed: int
    max_draft_tokens: int
    cache_salt: str = ""
    feature_sinks: tuple[str, ...] = ()
    num_target_top: int = 0
    score_depth: ScoreDepth = "depth1"
    draft_form: DraftForm = CHAIN
    num_prompt_scores: int = 0

    @property
    def num_tokens(self) -> int:
        """The length of prompt and emitted ids together."""
        return len(self.prompt_ids) + len(self.emitted_ids)


@dataclass(frozen=True, slots=True)
class SparseRows:
    """Probability distributions over few ids, one row per draft node or emitted token (CSR).

    offsets: [num_rows + 1]; ids: [num_entries] token ids, unique within a row; probs: [num_entries] float32, each row
    sums to 1 for a draft distribution and to the kept mass for a target's top ids.
    """

    offsets: NDArray[np.int32]
    ids: NDArray[np.int32]
    probs: NDArray[np.float32]

    @property
    def num_rows(self) -> int:
        return len(self.offsets) - 1

    def row(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return ids and probabilities of one row."""
        start, end = int(self.offsets[index]), int(self.offsets[index + 1])
        return self.ids[start:end], self.probs[start:end]


@dataclass(frozen=True, slots=True)
class Opened:
    """A replica's answer to `open`.

    num_cached_tokens: prompt tokens whose KV was already there
    prompt_top: a target's top ids for the last prompt tokens, when the session asked for them; row r is the distribution
        of the prompt token at position num_prompt_tokens - num_rows + r, given the tokens before it
    """

    num_cached_tokens: int = 0
    prompt_top: SparseRows | None = None


@dataclass(frozen=True, slots=True)
class DraftTree:
    """A draft: proposed tokens. A chain is parent[i] = i - 1; parent -1 hangs under the last verified token.

    token_ids: [num_nodes]; parent: [num_nodes], parent[i] < i
    draft_probs: one row per node, the distribution that the node's token was sampled from, given its earlier siblings;
        only for `rejection`. None with `rejection`: every node was chosen with certainty (a deterministic tree)
    drafter_index: [num_nodes], the drafter of the answer that proposed each node of a merged tree; None: drafter_id
    compute_s: seconds that the drafter's replica took; 0 in one process
    """

    token_ids: NDArray[np.int32]
    parent: NDArray[np.int32]
    draft_probs: SparseRows | None = None
    drafter_id: str = ""
    compute_s: float = 0.0
    drafter_index: NDArray[np.int16] | None = None

    @property
    def num_nodes(self) -> int:
        return len(self.token_ids)

    @property
    def is_chain(self) -> bool:
        """Whether every node continues the previous one."""
        return bool(self.parent.tolist() == list(range(-1, self.num_nodes - 1)))

    @property
    def depth(self) -> int:
        """Nodes on the longest path: what one pass can accept at most."""
        if self.is_chain:
            return self.num_nodes
        depths: list[int] = []
        for parent in self.parent.tolist():
            depths.append(1 if parent < 0 else depths[parent] + 1)
        return max(depths)

    @staticmethod
    def chain(token_ids: NDArray[np.int32], draft_probs: SparseRows | None = None, drafter_id: str = "") -> DraftTree:
        """Return a chain of these tokens."""
        token_ids = np.asarray(token_ids, dtype=np.int32)
        return DraftTree(token_ids, np.arange(-1, len(token_ids) - 1, dtype=np.int32), draft_probs, drafter_id)


EMPTY_DRAFT = DraftTree(np.zeros(0, np.int32), np.zeros(0, np.int32))
"""No speculation: the target emits exactly one token."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of one target pass.

    accepted_nodes: indices of the accepted path, root first
    token_ids:      [num_emitted], the accepted tokens and then the recovered or bonus token
    target_probs:   [num_emitted] float32, the target's processed probability of each emitted token
    target_top:     its top ids per emitted token, when the session asked for them
    compute_s:      seconds that the target's replica took; 0 in one process
    """

    accepted_nodes: NDArray[np.int32]
    token_ids: NDArray[np.int32]
    target_probs: NDArray[np.float32]
    target_top: SparseRows | None = None
    compute_s: float = 0.0

    @property
    def num_accepted(self) -> int:
        return len(self.accepted_nodes)


@dataclass(frozen=True, slots=True)
class Observation:
    """Verified tokens, for the drafters to append.

    start: output index of token_ids[0]; token_ids: [num_tokens]; target_probs: [num_tokens]
    target_top: as in `Verdict`, with at least num_tokens rows
    wants_scores: False when the scores would not be used (pinned drafter, scoring schedule, sleeping drafter)
    score_from: output index of the first token to score; None is `start`. Before `start`, tokens that were observed
        without scores are scored too, in the same pass. An observation without tokens asks for the scores that are left
        at the end of an answer
    """

    start: int
    token_ids: NDArray[np.int32]
    target_probs: NDArray[np.float32]
    target_top: SparseRows | None = None
    wants_scores: bool = True
    score_from: int | None = None


@dataclass(frozen=True, slots=True)
class DraftRequest:
    """Ask a drafter for a proposal.

    num_draft_tokens: longest proposed path; 0 is allowed. num_nodes: most nodes; 0 is num_draft_tokens * branching
    observation: verified tokens that the drafter appends first, without scores. An engine gets it separately
    drafter_id: names one of several drafters that are asked together; a drafter that is asked alone ignores it
    """

    session_id: str
    round_index: int
    num_draft_tokens: int
    num_nodes: int = 0
    observation: Observation | None = None
    drafter_id: str = ""


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Ask a drafter for the scores of verified tokens that it has already appended. drafter_id: as in `DraftRequest`."""

    session_id: str
    observation: Observation
    drafter_id: str = ""


@dataclass(frozen=True, slots=True)
class PromptScoreRequest:
    """Ask a drafter how it would have drafted the end of the prompt.

    prompt_top: as in `Opened`. drafter_id: as in `DraftRequest`
    """

    session_id: str
    prompt_top: SparseRows
    drafter_id: str = ""


@dataclass(frozen=True, slots=True)
class Scores:
    """How a drafter's own proposals would have fared on verified tokens (design 5).

    start:           output index of the first row
    acceptance:      [num_tokens, depth] float32 by position and depth: the probability that the realised token is
                     proposed and accepted given that the earlier ones were; depth is max_draft_tokens, or 1 when it
                     does not depend on the start. Trees: one shadow cursor walks over the text, drafting afresh where
                     its last draft ended; entries off its path are 0 and are never read by `rounds`. Multi-drafts: every
                     start, as for a chain, with the first column of all first tokens together. Entries after a draft
                     has ended are 0. All for drafts of max_draft_tokens (and max_draft_tokens * branching nodes)
    acceptance_prob: [num_tokens, depth] float32, sum_x min(p(x), q(x)); None unless the session's num_target_top > 0
    """

    start: int
    acceptance: NDArray[np.float32]
    acceptance_prob: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class FeatureBlock:
    """Target hidden states of consecutive positions, concatenated over the three feature layers.

    start_position: position (not output index) of rows[0]
    rows: [num_positions, 3 * target_hidden], float32, or uint16 holding bfloat16 bits
    """

    session_id: str
    start_position: int
    rows: NDArray[np.float32] | NDArray[np.uint16]


FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class DraftShare:
    """One drafter's part of a round: nodes it proposed and nodes of them that were accepted."""

    drafter_id: str
    num_drafted: int
    num_accepted: int


@dataclass(frozen=True, slots=True)
class RoundReport:
    """The result of one round, as the decode loop yields it; SSE, metrics and logs are derived from it.

    drafter_id:  None for a round without speculation; of a merged round the drafter with most accepted tokens, on ties
        the one with more weight
    num_drafted, num_accepted: nodes of all drafters together
    token_ids:   tokens of this round that belong to the answer; fewer than num_accepted + 1 where the answer ends
    draft_s, verify_s: seconds that the router waited; learn_s: learner and selection, hidden behind the target or not
    transport_s: the part of draft_s and verify_s that the replicas did not spend computing; 0 in one process
    weights:     the learner's, [num_drafters], after this round's update; empty when nothing is learned
    depth:       nodes on the longest path of the draft
    merged:      each drafter's part, when several drafters proposed
    """

    round_index: int
    drafter_id: str | None
    num_drafted: int
    num_accepted: int
    token_ids: NDArray[np.int32]
    finish_reason: FinishReason | None
    draft_s: float
    verify_s: float
    learn_s: float
    transport_s: float
    weights: NDArray[np.float64]
    depth: int = 0
    merged: tuple[DraftShare, ...] = ()

    @property
    def shares(self) -> tuple[DraftShare, ...]:
        """Every drafter's part of the round; empty without speculation."""
        if self.merged or self.drafter_id is None:
            return self.merged
        return (DraftShare(self.drafter_id, self.num_drafted, self.num_accepted),)


@dataclass(slots=True)
class DecodeStats:
    """Counters of one answer; ratios are derived.

    num_accepted counts accepted draft tokens, also those cut off where the answer ended
    rounds_by_drafter: rounds it proposed in; in a merged round several drafters do
    expected_passes: drafter id -> sum of u_t, the passes that drafter alone would have needed, if scored throughout; over
    the positions scored so far, complete once the answer has settled
    overhead_s: wall time of the decode loop outside draft, verify and learn
    """

    num_prompt_tokens: int = 0
    num_emitted: int = 0
    num_rounds: int = 0
    num_drafts: int = 0
    num_drafted: int = 0
    num_accepted: int = 0
    num_migrations: int = 0
    num_cached_tokens: int = 0
    rounds_by_drafter: dict[str, int] = field(default_factory=dict)
    drafted_by_drafter: dict[str, int] = field(default_factory=dict)
    accepted_by_drafter: dict[str, int] = field(default_factory=dict)
    accepted_per_position: list[int] = field(default_factory=list)
    expected_passes: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    draft_s: float = 0.0
    verify_s: float = 0.0
    learn_s: float = 0.0
    transport_s: float = 0.0
    overhead_s: float = 0.0

    @property
    def mean_accepted_tokens(self) -> float:
        """Tokens emitted per target pass, the recovered or bonus token included."""
        return self.num_emitted / self.num_rounds if self.num_rounds else 0.0

    @property
    def acceptance_rate(self) -> float:
        """Accepted / drafted tokens."""
        return self.num_accepted / self.num_drafted if self.num_drafted else 0.0


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One validated request of one tenant; the API layer makes it, the router runs it.

    drafter: None lets the learner choose, a drafter id pins it, "none" turns speculation off, "random" draws one per round
    max_draft_tokens: a lower ceiling than the configured one, or None
    scope: optional sub-key of the tenant's preferences
    """

    request_id: str
    tenant: str
    prompt_ids: NDArray[np.int32]
    sampling: SamplingParams
    scope: str = ""
    drafter: str | None = None
    max_draft_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class GenerationChunk:
    """Text of one or more rounds. Exactly one chunk of an answer, the last, has finish_reason and stats.

    token_ids: ids of `text`; a stop string trims both
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None = None
    stats: DecodeStats | None = None
