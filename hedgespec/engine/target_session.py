"""A target's session holds its text, its KV slot and the sinks that its hidden features go to."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hedgespec.engine.prefix_reuse import Features, PrefixReuse
from hedgespec.engine.work import Verify
from hedgespec.models.causal_lm.block import Block, BlockOutput
from hedgespec.models.memory.kv_memory import KvSlot
from hedgespec.models.session_text import SessionText
from hedgespec.protocols import FeatureSink
from hedgespec.sampling.token_counts import token_counts
from hedgespec.speculative.acceptance import prompt_top
from hedgespec.speculative.sparse_rows import concatenate
from hedgespec.speculative.verification import VerifyContext
from hedgespec.types import FeatureBlock, Opened, SparseRows, Verdict

FEATURE_ROWS = 256
"""Features of reused rows are pushed in pieces of this many rows, as those of a prefill are."""


class TargetSession:
    """One session. Between rounds slot.length is len(text) - 1: the last id is the first row of the next verify block."""

    def __init__(self, text: SessionText, slot: KvSlot, sinks: list[FeatureSink], prefix: PrefixReuse) -> None:
        self.text = text
        self.slot = slot
        self.spec = text.spec
        self._sinks = sinks
        self._prefix = prefix
        self._num_reused = 0
        self._prompt_top: list[SparseRows] = []
        self._counts = token_counts(self.spec.sampling, self.spec.prompt_ids, self.spec.emitted_ids)

    def reuse(self) -> int:
        """Copy cached rows of the text's beginning, push their features, and return the number of rows saved.

        Rows whose logits are wanted are not taken from the cache; those of the last id come with the first verify.
        Raises ReplicaBusy.
        """
        first, end = self._scored_prompt()
        features = self._prefix.take(self.slot, self.text.ids, first if first < end else len(self.text) - 1)
        self._num_reused = self.slot.length
        if features is not None:
            for start in range(0, len(features), FEATURE_ROWS):
                self._push(start, features[start : start + FEATURE_ROWS])
        return self._num_reused

    def prefill_block(self, start: int, num_rows: int) -> Block:
        """Return the block of num_rows ids from `start` on; logits only where `num_prompt_scores` wants distributions."""
        ids = self.text.ids[start : start + num_rows].copy()
        first, end = self._scored_prompt()
        logits_from = min(max(first - start, 0), num_rows) if start < end else num_rows
        return Block(self.slot, ids, logits_from=logits_from, wants_features=bool(self._sinks))

    def add_prefilled(self, start: int, block: Block, output: BlockOutput) -> None:
        """Keep features and distributions of a prefill pass; the block's first row has position `start`."""
        self._share(start, output.features)
        _, end = self._scored_prompt()
        num_wanted = max(0, min(end - start, block.num_rows) - block.logits_from)  # logits begin at block.logits_from
        if num_wanted:
            self._prompt_top.append(prompt_top(output.logits[:num_wanted], self.spec.sampling))

    def opened(self) -> Opened:
        """Return the answer to `open`."""
        return Opened(
            num_cached_tokens=min(self._num_reused, len(self.spec.prompt_ids)),
            prompt_top=concatenate(self._prompt_top) if self._prompt_top else None,
        )

    def _scored_prompt(self) -> tuple[int, int]:
        """Return positions [first, end) whose logits are the distributions of the last num_prompt_scores prompt tokens."""
        end = len(self.spec.prompt_ids) - 1
        return max(end - self.spec.num_prompt_scores, 0), end if self.spec.num_prompt_scores else 0

    def verify_block(self, work: Verify) -> Block:
        """Return the block [last id, draft nodes] of one verify."""
        ids = np.concatenate([self.text.ids[-1:], work.tree.token_ids]).astype(np.int32)
        parent = None if work.tree.is_chain else np.concatenate([[-1], work.tree.parent + 1]).astype(np.int32)
        return Block(self.slot, ids, parent, wants_features=bool(self._sinks))

    def context(self, work: Verify) -> VerifyContext:
        """Return what acceptance needs of the session."""
        return VerifyContext(
            params=self.spec.sampling,
            noise_seed=self.spec.noise_seed,
            first_output_index=self.text.num_emitted,
            counts=self._counts,
            num_target_top=self.spec.num_target_top,
        )

    def emit(self, verdict: Verdict, features: Tensor | None) -> None:
        """Keep the KV rows of the accepted path, push its features and append the emitted tokens.

        features: [1 + num_nodes, 3 * hidden] of the rows that the last pass appended to the slot.
        """
        base = len(self.text) - 1
        kept = [0, *(int(node) + 1 for node in verdict.accepted_nodes)]
        self.slot.keep(base, [base + row for row in kept])
        if features is not None:
            features = features[: len(kept)] if kept[-1] == len(kept) - 1 else features[kept]
        self.text.append(verdict.token_ids)
        self._share(base, features)
        if self._counts is not None:
            self._counts.append(verdict.token_ids)

    def _share(self, start_position: int, features: Tensor | None) -> None:
        """Push features [num_positions, 3 * hidden] to all sinks and offer complete blocks to the prefix cache."""
        rows = None if features is None else feature_rows(features)
        if rows is not None:
            self._push(start_position, rows)
        self._prefix.offer(self.slot, self.text.ids, rows)

    def _push(self, start_position: int, rows: Features) -> None:
        block = FeatureBlock(self.spec.session_id, start_position, rows)
        for sink in self._sinks:
            sink.push(block)


def feature_rows(features: Tensor) -> Features:
    """Return rows as they travel: float32, or the bits of bfloat16. On CPU float32 rows are not copied."""
    if features.dtype == torch.bfloat16:
        bits: np.ndarray = features.contiguous().view(torch.int16).cpu().numpy().view(np.uint16)
        return bits
    rows: np.ndarray = features.float().cpu().numpy()
    return rows
