"""Random recordings for the tests of the simulation: no model behind them, any numbers in [0, 1] are a possible one."""

from __future__ import annotations

import numpy as np

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
