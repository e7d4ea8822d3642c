"""EAGLE-3 drafting and scoring written down naively: dense attention over everything, recomputed at each step."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hedgespec.models.eagle3.head import Eagle3Head


class DenseHead:
    """features: [num_positions, 3 * hidden] of every position; ids: prompt and realised tokens."""

    def __init__(self, head: Eagle3Head, ids: np.ndarray, features: np.ndarray) -> None:
        self._head = head
        self._ids = ids.tolist()
        self._fused = head.fuse(torch.from_numpy(features))

    @torch.no_grad()
    def logits(self, start: int, tokens: list[int]) -> Tensor:
        """Logits [vocab] of the token after ids[:start] + tokens, drafted by a round that starts at position `start`.

        True features are known up to position start - 2; then the head feeds on its own states.
        """
        ids = [*self._ids[:start], *tokens]
        hidden = self._fused[: start - 1]
        for _ in range(len(tokens) + 1):
            num_pairs = len(hidden)
            embedded = self._head.embed(torch.tensor(ids[1 : num_pairs + 1]))
            states = self._head.step(embedded, hidden, torch.arange(num_pairs), self._attend)
            hidden = torch.cat([hidden, states[-1:]])
        head = self._head
        logits = torch.full((head.config.vocab_size,), -torch.inf)
        logits[head.draft_to_target] = head.logits(states[-1])
        return logits

    def greedy_draft(self, start: int, num_tokens: int) -> list[int]:
        tokens: list[int] = []
        for _ in range(num_tokens):
            tokens.append(int(self.logits(start, tokens).argmax()))
        return tokens

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        repeats = query.shape[1] // key.shape[1]
        key, value = (states.repeat_interleave(repeats, dim=1) for states in (key, value))
        scores = torch.einsum("qhd,khd->hqk", query, key) * query.shape[-1] ** -0.5
        causal = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        weights = scores.masked_fill(~causal, -torch.inf).softmax(dim=-1)
        return torch.einsum("hqk,khd->qhd", weights, value).flatten(1)
