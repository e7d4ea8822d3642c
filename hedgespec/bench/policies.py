"""Measure ways to choose drafters live and side by side (`hedgespec bench policies`): the HedgeSpec paper's main table.

All policies take turns on each prompt, over the same models in one process: a noisy machine is noisy for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hedgespec.bench.answers import ArmResult, measure_answer, rotated
from hedgespec.router.service import GenerationService
from hedgespec.types import SamplingParams

Prompts = Mapping[str, Sequence[NDArray[np.int32]]]
"""domain -> prompts as token ids"""

ALL = "all domains"
"""The name under which the answers of all domains are summed up."""


@dataclass(frozen=True, slots=True)
class Policy:
    """One way to choose drafters.

    service: a service over the shared models, with the policy's learner
    drafter: (domain, index of the prompt) -> a pinned drafter id, "none", "random", or None for the learner's choice
    """

    name: str
    service: GenerationService
    drafter: Callable[[str, int], str | None]


@dataclass(frozen=True, slots=True)
class PoliciesReport:
    """results[temperature][domain][policy]; the domain `ALL` has the answers of all domains."""

    max_tokens: int
    results: dict[str, dict[str, dict[str, ArmResult]]]

    def as_json(self) -> dict[str, Any]:
        """Return the report with its derived figures, so that a reader of the JSON does not have to compute them."""
        temperatures = {
            temperature: {d: {name: result.as_json() for name, result in row.items()} for d, row in by_domain.items()}
            for temperature, by_domain in self.results.items()
        }
        return {"max_tokens": self.max_tokens, "temperatures": temperatures}


async def measure_policies(
    policies: Sequence[Policy],
    prompts: Prompts,
    samplings: Sequence[SamplingParams],
    num_seeds: int,
    advance: Callable[[], None],
) -> PoliciesReport:
    """Decode every prompt with every policy, num_seeds times each. advance: called after every answer."""
    results: dict[str, dict[str, dict[str, ArmResult]]] = {}
    for sampling in samplings:
        by_domain = results.setdefault(f"{sampling.temperature:g}", {})
        total = {policy.name: ArmResult() for policy in policies}
        for domain, domain_prompts in prompts.items():
            row = by_domain[domain] = {policy.name: ArmResult() for policy in policies}
            turns = [(seed, index, ids) for seed in range(num_seeds) for index, ids in enumerate(domain_prompts)]
            for seed, index, prompt_ids in turns:
                # no policy always goes first and finds the caches cold
                for policy in rotated(policies, seed + index):
                    answer = await measure_answer(policy.service, prompt_ids, sampling, policy.drafter(domain, index))
                    await policy.service.drain()  # late scores belong to this answer and must not slow the next one
                    row[policy.name].add(answer)
                    total[policy.name].add(answer)
                    advance()
        by_domain[ALL] = total
    return PoliciesReport(max((s.max_tokens for s in samplings), default=0), results)
