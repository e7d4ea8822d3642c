"""Random models so small that every trajectory can be added up: expectations without sampling."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cache

import numpy as np

VOCAB = 3


class RandomModels:
    """A target p(x | prefix) and a drafter q(x | prefix, start of the round), drawn once per argument."""

    def __init__(self, seed: int, has_start_dependent_drafts: bool) -> None:
        rng = np.random.default_rng(seed)
        self.target = cache(lambda prefix: rng.dirichlet(np.full(VOCAB, 0.7)))
        by_start = cache(lambda prefix, start: rng.dirichlet(np.full(VOCAB, 0.7)))
        self.drafter = by_start if has_start_dependent_drafts else lambda prefix, start: by_start(prefix, 0)

    def acceptance(self, tokens: tuple[int, ...], depth: int) -> tuple[np.ndarray, np.ndarray]:
        """a and gamma [num_positions, depth] of `rejection` along a trajectory; starts before 0 do not exist: NaN."""
        a = np.full((len(tokens), depth), np.nan)
        gamma = np.full((len(tokens), depth), np.nan)
        for position, token in enumerate(tokens):
            p = self.target(tokens[:position])
            for j in range(1, min(depth, position + 1) + 1):
                q = self.drafter(tokens[:position], position - j + 1)
                a[position, j - 1] = min(1.0, q[token] / p[token])
                gamma[position, j - 1] = np.minimum(p, q).sum()
        return a, gamma

    def trajectories(self, num_tokens: int) -> Iterator[tuple[tuple[int, ...], float]]:
        """Every token sequence of this length with its probability under the target."""
        for tokens in itertools.product(range(VOCAB), repeat=num_tokens):
            probability = np.prod([self.target(tokens[:k])[tokens[k]] for k in range(num_tokens)])
            yield tokens, float(probability)

    def expected_passes(self, num_tokens: int, depth: int) -> float:
        """The truth by speculative decoding itself (draft, accept with min(1, p/q), residual, bonus), over all outcomes."""

        def start_round(prefix: tuple[int, ...]) -> float:
            return 0.0 if len(prefix) >= num_tokens else 1.0 + inside_round(prefix, len(prefix), 0)

        def inside_round(prefix: tuple[int, ...], start: int, num_accepted: int) -> float:
            if len(prefix) >= num_tokens:
                return 0.0
            p = self.target(prefix)
            q = self.drafter(prefix, start) if num_accepted < depth else np.zeros(VOCAB)
            total = 0.0
            for token in range(VOCAB):
                total += min(p[token], q[token]) * inside_round((*prefix, token), start, num_accepted + 1)
                total += max(p[token] - q[token], 0.0) * start_round((*prefix, token))
            return total

        return start_round(())

    def expected_length(self, depth: int) -> float:
        """The true mean length: 1 + sum_k of the probability that k drafted tokens survive."""

        def survive(prefix: tuple[int, ...]) -> float:
            if len(prefix) == depth:
                return 0.0
            kept = np.minimum(self.target(prefix), self.drafter(prefix, 0))
            return sum(kept[token] * (1.0 + survive((*prefix, token))) for token in range(VOCAB))

        return 1.0 + survive(())
