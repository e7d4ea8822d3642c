"""A drafter's vocabulary: which ids of the target its network has. Heads often have the most frequent ones only (`d2t`).

Everything is computed over these columns. Rows over the target's whole vocabulary are made only where ids are asked for
one by one: with a logit bias, with penalties, and for wide drafts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.sampling.parameter import plan
from hedgespec.sampling.processing import largest_ids, process_logits, shape_logits
from hedgespec.sampling.token_counts import TokenCounts
from hedgespec.speculative.proposal import kept_parts, truncate
from hedgespec.speculative.scoring import DraftProbs
from hedgespec.types import SamplingParams, SparseRows

Ancestors = Sequence[Sequence[int]]


class DraftVocabulary:
    """Turns columns of a network's logits into ids of the target.

    draft_to_target: [num_columns], the id of every column; None when the columns are the target's ids
    """

    def __init__(self, vocab_size: int, draft_to_target: Tensor | None = None) -> None:
        self.vocab_size = vocab_size
        is_whole = draft_to_target is None or len(draft_to_target) == vocab_size
        self._draft_to_target = None if is_whole else draft_to_target
        self._ids = None if is_whole or draft_to_target is None else draft_to_target.cpu().numpy().astype(np.int32)
        if self._ids is not None:
            self._columns = np.full(vocab_size, -1, np.int64)
            self._columns[self._ids] = np.arange(len(self._ids))

    def spread(self, logits: Tensor) -> Tensor:
        """Return rows over the target's vocabulary, -inf where there is no column: [rows, num_columns] -> [rows, vocab]."""
        if self._draft_to_target is None:
            return logits
        full = logits.new_full((len(logits), self.vocab_size), -torch.inf)
        full[:, self._draft_to_target] = logits
        return full

    def greedy_ids(
        self, logits: Tensor, params: SamplingParams, counts: TokenCounts | None, ancestors: Ancestors
    ) -> NDArray[np.int32]:
        """Return the most probable id of every row, [rows]; arguments as in `process_logits`, logits [rows, num_columns]."""
        if self._ids is None or self._needs_ids(params, counts):
            shaped = shape_logits(self.spread(logits), params, counts, ancestors)
            largest: NDArray[np.int32] = largest_ids(shaped).int().cpu().numpy()
            return largest
        chosen: NDArray[np.int32] = self._ids[largest_ids(logits).cpu().numpy()]
        return chosen

    def truncated(
        self, logits: Tensor, params: SamplingParams, counts: TokenCounts | None, ancestors: Ancestors
    ) -> SparseRows:
        """Return the truncated distributions that drafts are sampled from, see `truncate`."""
        if self._ids is None or self._needs_ids(params, counts):
            return truncate(process_logits(self.spread(logits), params, counts, ancestors))
        rows = truncate(process_logits(logits, params))
        return SparseRows(rows.offsets, self._ids[rows.ids], rows.probs)

    def draft_probs(
        self, logits: Tensor, params: SamplingParams, counts: TokenCounts | None, ancestors: Ancestors
    ) -> DraftProbs:
        """Return a look-up of single probabilities of `truncated`, which costs less than all of its rows.

        Of ids that tie with the last one kept, `truncated` may leave some out.
        """
        needs_ids = self._needs_ids(params, counts)
        probs = process_logits(self.spread(logits) if needs_ids else logits, params, counts, ancestors)
        kept = kept_parts(probs)
        columns = None if needs_ids or self._ids is None else self._columns

        def lookup(rows: NDArray[np.int64], ids: NDArray[np.int32]) -> NDArray[np.float64]:
            own = ids.astype(np.int64) if columns is None else columns[ids]
            entries = probs[torch.from_numpy(rows), torch.from_numpy(np.maximum(own, 0))].double().cpu().numpy()
            is_kept = (own >= 0) & (entries >= kept.floor[rows])
            return np.where(is_kept, entries / kept.mass[rows], 0.0)

        return lookup

    def _needs_ids(self, params: SamplingParams, counts: TokenCounts | None) -> bool:
        has_counts = counts is not None
        return self._ids is not None and any(has_counts or not own.reads_counts for own, _ in plan(params).shaping)
