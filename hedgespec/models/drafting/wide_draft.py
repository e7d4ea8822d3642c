"""Drafts wider than a chain (trees, several chains), grown level by level from the logits that a network gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from hedgespec.sampling.processing import process_logits, soft_distribution
from hedgespec.sampling.token_counts import TokenCounts
from hedgespec.speculative.multi_chain import MultiChain, chain_lengths
from hedgespec.speculative.proposal import Children, ranked_children, truncate
from hedgespec.speculative.tree_growth import TreeGrowth
from hedgespec.types import DraftTree, SessionSpec


@dataclass(frozen=True, slots=True)
class DraftStart:
    """Where a draft starts. counts: of the ids before output_index, for penalties."""

    spec: SessionSpec
    counts: TokenCounts | None
    output_index: int
    round_index: int = 0


class WideDraft(Protocol):
    """A draft of several branches. Extend it with the logits at its root, then, while it has `tokens`, with the logits after
    each of them.

    tokens:      of the newest level, in need of logits; empty when the draft is complete
    parent_rows: for each of them, the row of the previous call's logits that it continues
    """

    @property
    def tokens(self) -> list[int]: ...

    @property
    def parent_rows(self) -> list[int]: ...

    def extend(self, logits: Tensor) -> None: ...

    def finished(self, drafter_id: str) -> DraftTree: ...


def wide_draft(start: DraftStart, num_draft_tokens: int, num_nodes: int) -> WideDraft:
    """Begin a draft in the form of the session; a chain is one chain. num_nodes: 0 for num_draft_tokens * branching."""
    if start.spec.draft_form.kind == "tree":
        return TreeDraft(start, num_draft_tokens, num_nodes)
    return MultiChainDraft(start, num_draft_tokens, num_nodes)


class TreeDraft:
    """One tree. realised: see `TreeGrowth`."""

    def __init__(
        self, start: DraftStart, num_draft_tokens: int, num_nodes: int = 0, realised: Sequence[int] | None = None
    ) -> None:
        branching = start.spec.draft_form.branching
        self._start = start
        self._growth = TreeGrowth(num_draft_tokens, branching, num_nodes or num_draft_tokens * branching, realised)
        self._level = 0

    @property
    def tokens(self) -> list[int]:
        return [self._growth.tokens[node] for node in self._growth.frontier]

    @property
    def parent_rows(self) -> list[int]:
        return self._growth.parent_rows

    def extend(self, logits: Tensor) -> None:
        if self._growth.frontier:
            self._growth.extend(ranked(self._start, logits, self._growth.ancestors(), self._level))
            self._level += 1

    def finished(self, drafter_id: str) -> DraftTree:
        return self._growth.finished(drafter_id)


class MultiChainDraft:
    """One or several chains, with distinct first tokens when the form is `distinct`."""

    def __init__(self, start: DraftStart, num_draft_tokens: int, num_nodes: int = 0) -> None:
        spec = start.spec
        num_chains = 1 if spec.draft_form.kind == "chain" else spec.draft_form.branching
        self._start = start
        self._chains = MultiChain(
            spec.sampling.method,
            spec.noise_seed,
            start.output_index,
            start.round_index,
            is_distinct=spec.draft_form.kind == "distinct",
            lengths=chain_lengths(num_draft_tokens, num_chains, num_nodes),
        )

    @property
    def tokens(self) -> list[int]:
        return [self._chains.tokens[chain][-1] for chain in self._chains.frontier]

    @property
    def parent_rows(self) -> list[int]:
        return self._chains.parent_rows

    def extend(self, logits: Tensor) -> None:
        if not self._chains.frontier:
            return
        ancestors = self._chains.ancestors()
        if self._chains.wants_ranking:
            self._chains.begin(ranked(self._start, logits, ancestors, 0)[0][0].tolist())
            return
        probs = process_logits(logits, self._start.spec.sampling, self._start.counts, ancestors)
        self._chains.extend(truncate(probs))

    def finished(self, drafter_id: str) -> DraftTree:
        return self._chains.finished(drafter_id)


def ranked(start: DraftStart, logits: Tensor, ancestors: Sequence[Sequence[int]], level: int) -> list[Children]:
    """Return the best children of every row; logits: [rows, vocab] of the tokens `level` after the draft's start."""
    spec = start.spec
    probs = soft_distribution(logits, spec.sampling, start.counts, ancestors)
    index = start.output_index + level
    return ranked_children(probs, spec.sampling.method, spec.noise_seed, index, spec.draft_form.branching)
