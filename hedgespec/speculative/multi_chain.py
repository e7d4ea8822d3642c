"""A multi-draft is several chains under the last verified token (Miao et al. 2024, SpecInfer). NumPy only.

`iid`: independent samples of one distribution. `distinct`: first tokens drawn without replacement, each chain's first
distribution leaving out the earlier chains' first tokens. At temperature 0 and under `coupled` every sample of a
distribution is the same: iid is then one chain, and the first tokens of `distinct` are the best ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hedgespec.speculative.proposal import propose, without
from hedgespec.speculative.sparse_rows import TokenDistribution, rows_of
from hedgespec.types import DraftTree, Method, SparseRows


class MultiChain:
    """Several chains that grow by one token each per `extend`, until `frontier` is empty.

    frontier:    chains whose next distribution is wanted, in order; before the first token one row serves all
    parent_rows: which row of the frontier before this one each of them continues
    """

    def __init__(
        self,
        method: Method,
        noise_seed: int,
        output_index: int,
        round_index: int,
        *,
        is_distinct: bool,
        lengths: Sequence[int],
    ) -> None:
        self.tokens: list[list[int]] = []
        self.frontier: list[int] = [0] if lengths else []
        self.parent_rows: list[int] = []
        self._distributions: list[list[TokenDistribution]] = []
        self._method: Method = method
        self._noise = noise_seed, output_index, round_index
        self._is_distinct = is_distinct
        self._lengths = list(lengths)

    @property
    def wants_ranking(self) -> bool:
        """Whether the next call is `begin`: the first tokens are the best ones instead of samples."""
        return not self.tokens and self._is_distinct and self._method != "rejection"

    def begin(self, token_ids: Sequence[int]) -> None:
        """Start one chain with each of these tokens, as many as are wanted."""
        self.tokens = [[int(token)] for token in token_ids[: len(self._lengths)]]
        self._distributions = [[] for _ in self.tokens]
        self._go_on(dict.fromkeys(range(len(self.tokens)), 0))

    def extend(self, distributions: SparseRows) -> None:
        """Add a token to every chain of the frontier. distributions: one row each, from `truncate`."""
        if not self.tokens:
            self._begin_with(distributions.row(0))
            return
        for row, chain in enumerate(self.frontier):
            self._add(chain, distributions.row(row))
        self._go_on({chain: row for row, chain in enumerate(self.frontier)})

    def ancestors(self) -> list[list[int]]:
        """List, per chain of the frontier, its tokens so far."""
        return [self.tokens[chain] if self.tokens else [] for chain in self.frontier]

    def finished(self, drafter_id: str) -> DraftTree:
        """Return the draft, chain after chain; with draft_probs under `rejection`."""
        lengths = [len(chain) for chain in self.tokens]
        parent = np.arange(-1, sum(lengths) - 1, dtype=np.int32)
        parent[np.cumsum([0, *lengths[:-1]])[: len(lengths)]] = -1
        token_ids = np.array([token for chain in self.tokens for token in chain], np.int32)
        drawn_from = rows_of([own for chain in self._distributions for own in chain])
        return DraftTree(token_ids, parent, drawn_from if self._method == "rejection" else None, drafter_id)

    def _begin_with(self, distribution: TokenDistribution) -> None:
        num_chains = len(self._lengths) if self._method == "rejection" else 1
        for chain in range(num_chains):
            own = distribution
            if self._is_distinct and chain:
                own = without(distribution, [tokens[0] for tokens in self.tokens])
            if len(own[0]) == 0:
                break
            self.tokens.append([])
            self._distributions.append([])
            self._add(chain, own)
        self._go_on(dict.fromkeys(range(len(self.tokens)), 0))

    def _add(self, chain: int, distribution: TokenDistribution) -> None:
        noise_seed, output_index, round_index = self._noise
        index = output_index + len(self.tokens[chain])
        self.tokens[chain].append(propose(*distribution, self._method, noise_seed, index, round_index, chain))
        self._distributions[chain].append(distribution)

    def _go_on(self, row_of: dict[int, int]) -> None:
        """row_of: the chains that have just grown, with their rows."""
        self.frontier = [chain for chain in row_of if len(self.tokens[chain]) < self._lengths[chain]]
        self.parent_rows = [row_of[chain] for chain in self.frontier]


def chain_lengths(num_draft_tokens: int, num_chains: int, num_nodes: int) -> list[int]:
    """Divide num_nodes (0: no limit) among chains of at most num_draft_tokens each, the first ones longest, none empty."""
    full = num_draft_tokens * num_chains
    each, extra = divmod(min(num_nodes or full, full), num_chains)
    return [length for length in (each + (chain < extra) for chain in range(num_chains)) if length]
