"""Drafts wider than a chain, grown from logits level by level: what a network has to do is in `parent_rows` and `tokens`."""

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
class DraftPlace:
    """Where a draft starts. counts: of the ids before output_index, for penalties."""

    spec: SessionSpec
    counts: TokenCounts | None
    output_index: int
    round_index: int = 0


class WideDraft(Protocol):
    """A draft of several branches. Give it the logits at its root, then, while `tokens` is not empty, those after each of
    them; parent_rows says which row of the call before each of them continues."""

    @property
    def tokens(self) -> list[int]: ...

    @property
    def parent_rows(self) -> list[int]: ...

    def extend(self, logits: Tensor) -> None: ...

    def finished(self, drafter_id: str) -> DraftTree: ...


def wide_draft(place: DraftPlace, num_draft_tokens: int, num_nodes: int) -> WideDraft:
    """A draft in the form of the session; a chain is one chain. num_nodes: 0 for num_draft_tokens * branching."""
    if place.spec.draft_form.kind == "tree":
        return TreeDraft(place, num_draft_tokens, num_nodes)
    return ChainsDraft(place, num_draft_tokens, num_nodes)


class TreeDraft:
    """realised: see `TreeGrowth`."""

    def __init__(
        self, place: DraftPlace, num_draft_tokens: int, num_nodes: int = 0, realised: Sequence[int] | None = None
    ) -> None:
        branching = place.spec.draft_form.branching
        self._place = place
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
            self._growth.extend(ranked(self._place, logits, self._growth.ancestors(), self._level))
            self._level += 1

    def finished(self, drafter_id: str) -> DraftTree:
        return self._growth.finished(drafter_id)


class ChainsDraft:
    def __init__(self, place: DraftPlace, num_draft_tokens: int, num_nodes: int = 0) -> None:
        spec = place.spec
        num_chains = 1 if spec.draft_form.kind == "chain" else spec.draft_form.branching
        self._place = place
        self._chains = MultiChain(
            spec.sampling.method,
            spec.noise_seed,
            place.output_index,
            place.round_index,
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
            self._chains.begin(ranked(self._place, logits, ancestors, 0)[0][0].tolist())
            return
        probs = process_logits(logits, self._place.spec.sampling, self._place.counts, ancestors)
        self._chains.extend(truncate(probs))

    def finished(self, drafter_id: str) -> DraftTree:
        return self._chains.finished(drafter_id)


def ranked(place: DraftPlace, logits: Tensor, ancestors: Sequence[Sequence[int]], level: int) -> list[Children]:
    """The best children of every row; logits: [rows, vocab] of the tokens `level` after the draft's start."""
    spec = place.spec
    probs = soft_distribution(logits, spec.sampling, place.counts, ancestors)
    index = place.output_index + level
    return ranked_children(probs, spec.sampling.method, spec.noise_seed, index, spec.draft_form.branching)
