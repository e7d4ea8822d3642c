"""Random recordings for the tests of the simulation (any numbers in [0, 1] are a possible one), and exact expectations."""

from __future__ import annotations

import numpy as np

from hedgespec.bench.simulation.hindsight import emitted_probs
from hedgespec.bench.simulation.recording import Recording

DOMAINS = ("python", "c")


def random_recording(
    num_answers: int = 4, num_drafters: int = 3, num_tokens: int = 40, depth: int = 3, seed: int = 0
) -> Recording:
    """Answers take turns in domain and then in temperature, 0 (0/1 acceptance) and 1. Drafter d is good in domain d."""
    rng = np.random.default_rng(seed)
    index = np.arange(num_answers)
    temperatures = np.where(index // len(DOMAINS) % 2 == 0, 0.0, 1.0)
    skill = np.where(np.arange(num_drafters) == (index % len(DOMAINS))[:, None], 0.8, 0.4)[:, :, None, None]
    shape = (num_answers, num_drafters, num_tokens, depth)
    hits = (rng.random(shape) < skill).astype(np.float32)
    soft = np.clip(rng.normal(skill, 0.2, shape), 0.0, 1.0).astype(np.float32)
    acceptance = np.where((temperatures == 0.0)[:, None, None, None], hits, soft)
    return Recording(
        drafter_ids=np.array(["generic", *(f"d{i}" for i in range(1, num_drafters))]),
        domains=np.array([DOMAINS[i % len(DOMAINS)] for i in index]),
        temperatures=temperatures,
        acceptance=acceptance,
        acceptance_prob=acceptance.copy(),
        prompt_overlap=np.clip(rng.normal(skill[..., 0], 0.1, (num_answers, num_drafters, 8)), 0, 1).astype(np.float32),
        token_ids=rng.integers(0, 9, (num_answers, num_tokens)).astype(np.int32),
        target_probs=rng.random((num_answers, num_tokens)).astype(np.float32),
    )


def repeated(num_answers: int, num_runs_each: int) -> np.ndarray:
    """The answers of runs for `replay`, the runs of an answer next to each other."""
    return np.repeat(np.arange(num_answers), num_runs_each)


def passes_of_weights(acceptance: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Expected passes, [num_answers], of a policy that draws the drafter of a round starting at t with weights[answer, t].

    Backwards over the answer: the passes to come after t are 1 + sum_k P(k + 1 tokens emitted) * (those after t + k + 1).
    """
    probs = emitted_probs(acceptance)
    num_answers, _, num_tokens, lengths = probs.shape
    to_come = np.zeros((num_answers, num_tokens + lengths))
    for t in range(num_tokens - 1, -1, -1):
        by_drafter = 1.0 + (probs[:, :, t] * to_come[:, None, t + 1 : t + 1 + lengths]).sum(axis=2)
        to_come[:, t] = np.einsum("ai,ai->a", weights[:, t], by_drafter)
    return to_come[:, 0]
