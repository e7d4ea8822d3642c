"""UCBSpec, a baseline that sees only the drafter it played (BanditSpec, paper.md 2.2, with the square root restored)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hedgespec.errors import ConfigError
from hedgespec.learning.baselines.bandit import checked_draft_tokens, one_hot, played_expert, saved_counts_fit
from hedgespec.learning.learners.learner import Floats, Mask, checked_prior, frozen, saved_arrays


@dataclass(frozen=True, slots=True)
class UcbState:
    """prior, pulls, losses, weights: [num_experts]; pulls and summed losses may be discounted. weights is one-hot."""

    prior: Floats
    pulls: Floats
    losses: Floats
    num_updates: int
    weights: Floats


class Ucb:
    """Play each drafter once, then argmax of mean emitted tokens + scale * confidence.

    An update is one round; its loss is 1 - emitted / (num_draft_tokens + 1). Ties and the order of the first plays follow
    the prior, then the index. name: what a saved state is marked with. scale: 1 is the published width, which is too wide
    for answers of a hundred rounds; smaller is tuned and without a theorem. failure: their delta
    """

    def __init__(self, name: str, num_draft_tokens: int = 5, scale: float = 1.0, failure: float = 0.1) -> None:
        if not (scale >= 0.0 and 0.0 < failure < 1.0):
            raise ConfigError(f"UCB needs scale >= 0 and failure in (0, 1), got {scale} and {failure}.")
        self._name = name
        self._num_draft_tokens = checked_draft_tokens(num_draft_tokens)
        self._scale = scale
        self._failure = failure

    def init(self, prior: Floats) -> UcbState:
        prior = checked_prior(prior)
        zeros = frozen(np.zeros_like(prior))
        return self._state(prior, zeros, zeros, 0)

    def weights(self, state: UcbState) -> Floats:
        return state.weights

    def update(self, state: UcbState, losses: Floats, awake: Mask) -> UcbState:
        if not np.any(awake):
            return state
        index, loss = played_expert(losses, awake, state.prior.size)
        pulls, summed = state.pulls.copy(), state.losses.copy()
        pulls[index] += 1.0
        summed[index] += loss
        return self._state(state.prior, pulls, summed, state.num_updates + 1)

    def regret_bound(self, num_updates: int, prior_mass: float, num_experts: int) -> float:
        """With probability 1 - failure on losses of constant mean, at the published scale: N first plays, then twice the
        confidence of what is played, largest when all are played alike. The trivial T when it is below that."""
        pulls = np.arange(1, math.ceil(num_updates / num_experts) + 1, dtype=np.float64)
        widths = self._confidence(pulls, num_updates, num_experts) / (self._num_draft_tokens + 1)
        return float(min(num_updates, num_experts * (1.0 + 2.0 * widths.sum())))

    def state_dict(self, state: UcbState) -> dict[str, Any]:
        return {
            "learner": self._name,
            "prior": state.prior.tolist(),
            "pulls": state.pulls.tolist(),
            "losses": state.losses.tolist(),
            "num_updates": state.num_updates,
        }

    def restore(self, saved: Mapping[str, Any]) -> UcbState:
        prior, num_updates, (pulls, losses) = saved_arrays(saved, self._name, "pulls", "losses")
        saved_counts_fit(pulls, losses)
        return self._state(prior, pulls, losses, num_updates)

    def _confidence(self, pulls: Floats, num_updates: int, num_experts: int) -> Floats:
        """(L/2) sqrt((1 + n) / n^2 (1 + 2 ln(N t^2 sqrt(1 + n) / failure))), in tokens."""
        inside = 1.0 + 2.0 * np.log(num_experts * num_updates**2 * np.sqrt(1.0 + pulls) / self._failure)
        widths: Floats = 0.5 * self._num_draft_tokens * np.sqrt((1.0 + pulls) / pulls**2 * inside)
        return widths

    def _state(self, prior: Floats, pulls: Floats, losses: Floats, num_updates: int) -> UcbState:
        if (pulls == 0.0).any():
            scores = np.where(pulls == 0.0, prior, -1.0)
        else:
            emitted = (1.0 - losses / pulls) * (self._num_draft_tokens + 1)
            scores = emitted + self._scale * self._confidence(pulls, num_updates + 1, prior.size)
        best = int(np.argmax(np.where(scores == scores.max(), prior, -1.0)))
        return UcbState(prior, frozen(pulls), frozen(losses), num_updates, one_hot(best, prior.size))
