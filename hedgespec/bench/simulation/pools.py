"""Make other recordings from one: with more drafters, with fewer, by draft length, with answers that change domain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hedgespec.bench.simulation.recording import Recording
from hedgespec.learning.experts import Expert


def larger_pool(recording: Recording, num_drafters: int, seed: int) -> Recording:
    """Add perturbed copies to the recorded drafters until there are num_drafters.

    A copy takes one drafter's entries at some positions and another one's elsewhere, and is wrong at the rest; the shares
    are drawn per copy. It is a possible drafter at any temperature, because entries are chosen and never averaged.
    """
    rng = np.random.default_rng([seed, num_drafters])
    acceptance, acceptance_prob = [recording.acceptance], [recording.acceptance_prob]
    names = recording.drafter_ids.tolist()
    for copy in range(num_drafters - recording.num_drafters):
        first, second = rng.choice(recording.num_drafters, size=2, replace=False)
        share, lost = rng.uniform(0.3, 0.9), rng.uniform(0.0, 0.3)
        draws = rng.random((recording.num_answers, recording.num_tokens, 1))
        kept = rng.random((recording.num_answers, recording.num_tokens, 1)) >= lost
        for rows, source in ((acceptance, recording.acceptance), (acceptance_prob, recording.acceptance_prob)):
            mixed = np.where(draws < share, source[:, first], source[:, second]) * kept
            rows.append(mixed.astype(np.float32)[:, None])
        names.append(f"copy{copy}")
    return recording.with_drafters(
        np.array(names), np.concatenate(acceptance, axis=1), np.concatenate(acceptance_prob, axis=1)
    )


def smaller_pool(recording: Recording, num_drafters: int, seed: int) -> Recording:
    """Draw num_drafters of the recorded drafters for each answer; an index means another drafter in every answer."""
    rng = np.random.default_rng([seed, num_drafters])
    picks = rng.permuted(np.tile(np.arange(recording.num_drafters), (recording.num_answers, 1)), axis=1)
    own = picks[:, :num_drafters, None, None]
    return recording.with_drafters(
        np.array([f"pick{i}" for i in range(num_drafters)]),
        np.take_along_axis(recording.acceptance, own, axis=1),
        np.take_along_axis(recording.acceptance_prob, own, axis=1),
    )


def mixed_answers(recording: Recording, seed: int) -> Recording:
    """Join the first half of each answer to the second half of one of another domain, at the same temperature.

    Both halves keep their positions, because scores are stored by position.
    """
    rng = np.random.default_rng(seed)
    own = np.arange(recording.num_answers)
    others = np.array([_of_another_domain(recording, answer, rng) for answer in range(recording.num_answers)])
    pairs = [f"{a}+{b}" for a, b in zip(recording.domains, recording.domains[others], strict=True)]
    is_first_half = np.arange(recording.num_tokens) < recording.num_tokens // 2
    return recording.spliced(np.where(is_first_half, own[:, None], others[:, None]), np.array(pairs))


def with_experts(recording: Recording, experts: Sequence[Expert]) -> Recording:
    """Replace the drafters by the experts of objective `time`: a shorter draft is the beginning of the longest."""
    lengths = np.array([expert.num_draft_tokens for expert in experts])
    drafters = np.array([expert.drafter_index or 0 for expert in experts])
    within = (np.arange(recording.max_draft_tokens) < lengths[:, None])[:, None, :].astype(np.float32)
    names = [
        "none" if expert.drafter_index is None else f"{recording.drafter_ids[expert.drafter_index]}/{length}"
        for expert, length in zip(experts, lengths, strict=True)
    ]
    return recording.with_drafters(
        np.array(names), recording.acceptance[:, drafters] * within, recording.acceptance_prob[:, drafters] * within
    )


def _of_another_domain(recording: Recording, answer: int, rng: np.random.Generator) -> int:
    is_other = recording.domains != recording.domains[answer]
    candidates = np.flatnonzero(is_other & (recording.temperatures == recording.temperatures[answer]))
    return int(rng.choice(candidates)) if len(candidates) else answer
