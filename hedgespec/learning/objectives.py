"""What a loss means: one small class per objective turns closed positions into loss vectors (DESIGN 5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hedgespec.errors import ConfigError
from hedgespec.learning.estimators import (
    Floats,
    Mask,
    RoundsCursor,
    advance,
    expected_length,
    length_product,
    start_diagonals,
)
from hedgespec.types import CHAIN, DraftForm, Objective

Losses = list[tuple[Floats, Mask]]
"""Loss vectors for the learner: losses [num_experts] in [0, 1] and who is awake [num_experts]. Experts are the drafters,
but for `throughput`, which has its own list."""


@dataclass(frozen=True, slots=True)
class Expert:
    """What a learner can choose under `throughput`: a drafter with a draft length, or (None, 0), no speculation."""

    drafter_index: int | None
    num_draft_tokens: int


class ObjectiveLosses(Protocol):
    """One answer's loss vectors under one objective."""

    needs_acceptance_prob: bool

    def close(self, round_starts: Floats, acceptance: Floats, acceptance_prob: Floats, awake: Mask) -> Losses:
        """The loss vectors that these further positions complete, in order.

        round_starts: [num_positions, num_drafters], u of the position after each of them
        acceptance, acceptance_prob: [num_drafters, num_positions, depth]; awake: [num_drafters, num_positions]
        """
        ...


class RoundsLosses:
    """Loss u of the next position: the probability that a round would start there."""

    needs_acceptance_prob = False

    def close(self, round_starts: Floats, acceptance: Floats, acceptance_prob: Floats, awake: Mask) -> Losses:
        return loss_vectors(round_starts, awake.T)


class ThroughputLosses:
    """Loss u * seconds / seconds_max of the next position, per expert: its share of the time that this text takes.

    All experts are scored from the same rows: a draft of k tokens is the beginning of the longest one, so its u is the
    recursion with a = 0 beyond depth k, and without speculation u = 1 everywhere. `seconds` is read at every closing.
    Positions that no drafter has scored are left out: no speculation alone is nothing to compare.
    """

    needs_acceptance_prob = False

    def __init__(self, max_draft_tokens: int, experts: Sequence[Expert], seconds: Callable[[], Floats]) -> None:
        lengths = np.array([expert.num_draft_tokens for expert in experts])
        self._drafters = np.array([expert.drafter_index or 0 for expert in experts])
        self._is_none = np.array([expert.drafter_index is None for expert in experts])[:, None]
        self._is_drafted = (np.arange(max_draft_tokens) < lengths[:, None])[:, None, :]  # [num_experts, 1, depth]
        self._cursor = RoundsCursor.start(len(experts), max_draft_tokens)
        self._seconds = seconds

    def close(self, round_starts: Floats, acceptance: Floats, acceptance_prob: Floats, awake: Mask) -> Losses:
        """Raises ConfigError when `seconds` does not give one positive, finite number per expert."""
        experts_awake = awake[self._drafters] | self._is_none
        drafted = np.where(self._is_drafted, acceptance[self._drafters], 0.0)
        self._cursor, expert_starts = advance(self._cursor, drafted, experts_awake)
        is_evidence = awake.any(axis=0)
        vectors = loss_vectors(expert_starts[1:] * self._relative_seconds(), experts_awake.T)
        return vectors if is_evidence.all() else [vectors[k] for k in np.flatnonzero(is_evidence)]

    def _relative_seconds(self) -> Floats:
        seconds = np.asarray(self._seconds(), dtype=np.float64)
        # a NaN fails both comparisons
        if seconds.shape != self._drafters.shape or not (seconds.min() > 0.0 and seconds.max() < np.inf):
            num_experts = len(self._drafters)
            raise ConfigError(f"Objective throughput needs {num_experts} positive seconds per round, got {seconds}.")
        relative: Floats = seconds / seconds.max()
        return relative


class AcceptanceLosses:
    """Loss 1 - gamma at depth 1."""

    needs_acceptance_prob = True

    def close(self, round_starts: Floats, acceptance: Floats, acceptance_prob: Floats, awake: Mask) -> Losses:
        if acceptance_prob.shape[2] == 0:
            return []
        return bounded_vectors(1.0 - acceptance_prob[:, :, 0].T, awake.T)


class LengthLosses:
    """Loss 1 - L / (K + 1) of each start, when its K positions have closed; the last K - 1 starts never are.

    lengths: (acceptance, acceptance_prob), both [..., depth] along the starts' diagonals -> L [...]
    """

    needs_acceptance_prob = True

    def __init__(self, max_draft_tokens: int, lengths: Callable[[Floats, Floats], Floats] = expected_length) -> None:
        self._max_draft_tokens = max_draft_tokens
        self._lengths = lengths
        self._waiting: tuple[Floats, Floats, Mask] | None = None  # the last K - 1 closed positions

    def close(self, round_starts: Floats, acceptance: Floats, acceptance_prob: Floats, awake: Mask) -> Losses:
        depth = self._max_draft_tokens
        if depth == 0:
            return []
        if self._waiting is not None:
            acceptance = np.concatenate([self._waiting[0], acceptance], axis=1)
            acceptance_prob = np.concatenate([self._waiting[1], acceptance_prob], axis=1)
            awake = np.concatenate([self._waiting[2], awake], axis=1)
        keep = slice(max(awake.shape[1] - depth + 1, 0), None)
        self._waiting = acceptance[:, keep], acceptance_prob[:, keep], awake[:, keep]
        num_starts = awake.shape[1] - depth + 1
        if num_starts <= 0:
            return []
        lengths = self._lengths(start_diagonals(acceptance), start_diagonals(acceptance_prob))
        present: Mask = np.logical_and.reduce([awake[:, j : j + num_starts] for j in range(depth)])
        return bounded_vectors(1.0 - lengths.T / (depth + 1), present.T)


OBJECTIVES: tuple[Objective, ...] = ("rounds", "acceptance", "length", "length_product", "throughput")


def make_objective(
    objective: Objective,
    num_drafters: int,
    max_draft_tokens: int,
    experts: Sequence[Expert] | None = None,
    seconds: Callable[[], Floats] | None = None,
    draft_form: DraftForm = CHAIN,
) -> ObjectiveLosses:
    """Raises ConfigError for an unknown objective and for what does not go together with it."""
    if objective not in OBJECTIVES:
        raise ConfigError(f"No objective named {objective!r}. Known: {sorted(OBJECTIVES)}.")
    if objective == "throughput":
        if experts is None or seconds is None:
            raise ConfigError("Objective throughput needs experts and their seconds per round.")
        _check_experts(experts, num_drafters, max_draft_tokens, draft_form)
        return ThroughputLosses(max_draft_tokens, tuple(experts), seconds)
    if experts is not None or seconds is not None:
        raise ConfigError(f"Experts and seconds belong to objective throughput; {objective} compares drafters.")
    if objective == "rounds":
        return RoundsLosses()
    if draft_form.kind != "chain":
        # The shadow cursor scores only the starts that it visits: a good drafter skips easy text, so a mean over its
        # own starts compares drafters on different text, and nothing on this trajectory tells about the other starts.
        raise ConfigError(
            f"Objective {objective} needs the score of every position, and drafts of kind {draft_form.kind} are scored "
            "only where a round of theirs would start. Use objective rounds or throughput, or chains."
        )
    if objective == "acceptance":
        return AcceptanceLosses()
    if objective == "length":
        return LengthLosses(max_draft_tokens)
    return LengthLosses(max_draft_tokens, lambda acceptance, acceptance_prob: length_product(acceptance_prob))


def loss_vectors(losses: Floats, awake: Mask) -> Losses:
    """Both [num_positions, num_experts]; positions that nobody scored are no evidence and are left out."""
    return [(losses[k], awake[k]) for k in range(len(losses)) if awake[k].any()]


def bounded_vectors(losses: Floats, awake: Mask) -> Losses:
    """Vectors of losses whose estimates may leave [0, 1]; both [num_positions, num_drafters].

    An estimate above its range makes a negative loss. Learners look at differences only, so such a vector is lifted
    as a whole, which keeps it unbiased; what is then above 1 is clipped.
    """
    lowest = np.where(awake, losses, 0.0).min(axis=1, keepdims=True)
    return loss_vectors(np.clip(losses - np.minimum(lowest, 0.0), 0.0, 1.0), awake)


def _check_experts(experts: Sequence[Expert], num_drafters: int, max_draft_tokens: int, draft_form: DraftForm) -> None:
    for expert in experts:
        index, length = expert.drafter_index, expert.num_draft_tokens
        if not (length == 0 if index is None else 0 <= index < num_drafters and 1 <= length <= max_draft_tokens):
            raise ConfigError(
                f"{expert} is no expert: a drafter below {num_drafters} with 1 to {max_draft_tokens} draft tokens, "
                "or drafter None with 0."
            )
        if draft_form.kind != "chain" and index is not None and length != max_draft_tokens:
            raise ConfigError(
                f"{expert} drafts a {draft_form.kind} shorter than {max_draft_tokens}: the scores follow rounds of the "
                "full length only. Give its experts the full length, or use chains."
            )
    if all(expert.drafter_index is None for expert in experts):
        raise ConfigError("Objective throughput needs an expert with a drafter: there is nothing to choose from.")
