"""The scores of one observation, filled column by column (one per draft depth) from the logits of a network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.models.drafting.vocabulary import DraftVocabulary
from hedgespec.models.drafting.wide_draft import DraftStart, ranked
from hedgespec.models.session_text import SessionText
from hedgespec.sampling.token_counts import TokenCounts, token_counts
from hedgespec.speculative.multi_scoring import first_token_scores
from hedgespec.speculative.scoring import coupled_acceptance, probs_of, rejection_acceptance, rejection_scores
from hedgespec.types import Observation, Scores, SparseRows

Values = NDArray[np.float32]


class ScoreColumns:
    """Acceptance and, when the target's top ids were sent, acceptance_prob: [num_tokens, depth], 0 where unknown.

    is_by_start: whether scores depend on where a draft starts. A chain whose drafts do not has one column. The chains of a
        multi-draft differ from a chain in their first tokens alone, so it has max_draft_tokens columns of which the later
        ones are a chain's.
    """

    def __init__(
        self, text: SessionText, vocabulary: DraftVocabulary, observation: Observation, *, is_by_start: bool
    ) -> None:
        spec = text.spec
        self.observation = observation
        self.is_wide = spec.draft_form.kind in ("iid", "distinct")
        self.depth = max(spec.max_draft_tokens, 1) if is_by_start or self.is_wide else 1
        self.is_by_start = is_by_start
        self._text, self._vocabulary = text, vocabulary
        shape = len(observation.token_ids), self.depth
        self._acceptance = np.zeros(shape, np.float32)
        self._acceptance_prob = np.zeros(shape, np.float32) if observation.target_top is not None else None

    def add_first(self, rows: Sequence[int], logits: Tensor) -> None:
        """Score first tokens of drafts. rows: rising indices into the observation; logits: [len(rows), num_columns]"""
        if not len(rows):
            return
        if not self.is_wide:
            self._put(rows, [0], *scored(self._text, self._vocabulary, self.observation, rows, logits))
            return
        self._put(rows, [0], *first_scored(self._text, self._vocabulary, self.observation, rows, logits))
        if not self.is_by_start and self.depth > 1:
            self._put(rows, range(1, self.depth), *scored(self._text, self._vocabulary, self.observation, rows, logits))

    def add(self, depth: int, rows: Sequence[int], logits: Tensor) -> tuple[Values, Values | None]:
        """Score the depth-th tokens of drafts (2, 3, ...); returns what was added."""
        values, acceptance_probs = scored(self._text, self._vocabulary, self.observation, rows, logits)
        self._put(rows, [depth - 1], values, acceptance_probs)
        return values, acceptance_probs

    def put_hit(self, row: int, depth: int, is_hit: bool) -> None:
        """Enter an acceptance that is known without logits."""
        self._acceptance[row, depth - 1] = is_hit

    def is_hit(self, row: int, depth: int) -> bool:
        return bool(self._acceptance[row, depth - 1] > 0.0)

    def first_column(self) -> tuple[Values, Values | None]:
        return self._acceptance[:, 0], None if self._acceptance_prob is None else self._acceptance_prob[:, 0]

    def finished(self) -> Scores:
        return Scores(self.observation.start, self._acceptance, self._acceptance_prob)

    def _put(
        self, rows: Sequence[int], columns: Sequence[int], values: Values, acceptance_probs: Values | None
    ) -> None:
        where = np.asarray(rows)[:, None], list(columns)
        self._acceptance[where] = values[:, None]
        if self._acceptance_prob is not None and acceptance_probs is not None:
            self._acceptance_prob[where] = acceptance_probs[:, None]


def scored(
    text: SessionText, vocabulary: DraftVocabulary, observation: Observation, rows: Sequence[int], logits: Tensor
) -> tuple[Values, Values | None]:
    """Score a chain's tokens: acceptance and, when the target's top ids were sent, acceptance_prob, [len(rows)] each.

    rows: of the observation; logits: [len(rows), num_columns]
    """
    spec, index = text.spec, np.asarray(rows, np.int64)
    given = logits, spec.sampling, *_before(text, observation, rows)
    tokens, target_probs = observation.token_ids[index], observation.target_probs[index]
    if spec.sampling.method == "greedy":
        hits = (vocabulary.greedy_ids(*given) == tokens).astype(np.float32)
        return hits, hits
    top = None if observation.target_top is None else _select(observation.target_top, index)
    if spec.sampling.method == "coupled":
        kept = vocabulary.truncated(*given)
        hits = coupled_acceptance(kept, tokens, spec.noise_seed, observation.start + index)
        return hits, None if top is None else rejection_scores(probs_of(kept), tokens, target_probs, top)[1]
    draft_probs = vocabulary.draft_probs(*given)
    if top is None:
        return rejection_acceptance(draft_probs, tokens, target_probs), None
    return rejection_scores(draft_probs, tokens, target_probs, top)


def first_scored(
    text: SessionText, vocabulary: DraftVocabulary, observation: Observation, rows: Sequence[int], logits: Tensor
) -> tuple[Values, Values | None]:
    """Score the first tokens of a multi-draft: as `scored`, but any of its chains may be accepted."""
    spec, index = text.spec, np.asarray(rows, np.int64)
    counts, ancestors = _before(text, observation, rows)
    is_distinct = spec.draft_form.kind == "distinct"
    if spec.sampling.method == "rejection":
        kept = vocabulary.truncated(logits, spec.sampling, counts, ancestors)
        top = None if observation.target_top is None else _select(observation.target_top, index)
        realised = observation.token_ids[index], observation.target_probs[index], top
        given = kept, *realised, spec.draft_form.branching, spec.noise_seed, observation.start + index
        values, any_accepted = first_token_scores(*given, is_distinct=is_distinct)
        return values, any_accepted if top is not None else None
    if not is_distinct:
        return scored(text, vocabulary, observation, rows, logits)
    start, logits = DraftStart(spec, counts, observation.start), vocabulary.spread(logits)
    hits = np.zeros(len(rows), np.float32)
    for offset, (row, own) in enumerate(zip(rows, ancestors, strict=True)):
        ids, _ = ranked(start, logits[offset : offset + 1], [own], row)[0]
        hits[offset] = observation.token_ids[row] in ids
    return hits, hits


def _before(
    text: SessionText, observation: Observation, rows: Sequence[int]
) -> tuple[TokenCounts | None, list[list[int]]]:
    """Return what penalties look at: counts before the observation, and the ids before each of `rows` within it."""
    counts = counts_before(text, observation.start)
    if counts is None:
        return None, [[]] * len(rows)
    return counts, [observation.token_ids[:row].tolist() for row in rows]


def counts_before(text: SessionText, output_index: int) -> TokenCounts | None:
    """Count the ids before an output index, for penalties; None without penalties."""
    emitted = text.ids[text.num_prompt : text.num_prompt + output_index]
    return token_counts(text.spec.sampling, text.spec.prompt_ids, emitted)


def _select(rows: SparseRows, index: NDArray[np.int64]) -> SparseRows:
    lengths = np.diff(rows.offsets)[index]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    entries = np.arange(offsets[-1]) + np.repeat(rows.offsets[index] - offsets[:-1], lengths)
    return SparseRows(offsets, rows.ids[entries], rows.probs[entries])
