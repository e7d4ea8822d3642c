"""What every drafter with a network does with its logits: choose the tokens of a chain."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from hedgespec.models.drafting.session_text import SessionText
from hedgespec.models.drafting.vocabulary import DraftVocabulary
from hedgespec.speculative.processing import TokenCounts
from hedgespec.speculative.proposal import concatenate, propose
from hedgespec.types import DraftTree, SparseRows


@dataclass(slots=True)
class DraftInProgress:
    """A chain that grows by one token per step of the network."""

    text: SessionText
    vocabulary: DraftVocabulary
    counts: TokenCounts | None
    round_index: int
    num_draft_tokens: int
    token_ids: list[int] = field(default_factory=list)
    laws: list[SparseRows] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        return len(self.token_ids) >= self.num_draft_tokens

    @property
    def is_plainly_greedy(self) -> bool:
        """Whether the next token is the most probable one, whatever came before it."""
        sampling = self.text.spec.sampling
        return sampling.method == "greedy" and not sampling.logit_bias and self.counts is None

    def extend(self, logits: Tensor) -> None:
        """Add the token proposed by logits [1, num_columns]."""
        spec = self.text.spec
        method = spec.sampling.method
        ancestors = [self.token_ids]
        if method == "greedy":
            self.token_ids.append(int(self.vocabulary.greedy_ids(logits, spec.sampling, self.counts, ancestors)[0]))
            return
        law = self.vocabulary.laws(logits, spec.sampling, self.counts, ancestors)
        output_index = self.text.num_emitted + len(self.token_ids)
        token = propose(*law.row(0), method, spec.noise_seed, output_index, self.round_index)
        self.token_ids.append(token)
        self.laws.append(law)

    def finished(self, drafter_id: str) -> DraftTree:
        is_sampled = self.text.spec.sampling.method == "rejection"
        draft_probs = concatenate(self.laws) if is_sampled else None
        return DraftTree.chain(np.array(self.token_ids, np.int32), draft_probs, drafter_id)
