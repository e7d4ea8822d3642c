"""Policies that choose drafters, live and side by side (`hedgespec bench policies`): what the paper's main table shows.

All policies take turns on each prompt, over the same models in one process, so that a noisy machine is noisy for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hedgespec.bench.answers import measure_answer
from hedgespec.bench.estimates import Ratio, ratio
from hedgespec.router.service import GenerationService
from hedgespec.types import DecodeStats, SamplingParams

Prompts = Mapping[str, Sequence[NDArray[np.int32]]]
"""domain -> prompts as token ids"""

ALL = "all domains"


@dataclass(frozen=True, slots=True)
class Policy:
    """One way to choose drafters.

    service:   a service over the shared models, with the policy's learner
    drafter:   (domain, index of the prompt) -> a pinned drafter id, "none", "random", or None for the learner's choice
    """

    name: str
    service: GenerationService
    drafter: Callable[[str, int], str | None]


@dataclass(slots=True)
class PolicyResult:
    """One policy on one domain; entries are per answer.

    best_fixed: passes of the drafter that would have needed the fewest on this very text, of those scored throughout
    """

    tokens: list[int] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best_fixed: list[float] = field(default_factory=list)

    def add(self, stats: DecodeStats, seconds: float) -> None:
        self.tokens.append(stats.num_emitted)
        self.passes.append(stats.num_rounds)
        self.seconds.append(seconds)
        self.best_fixed.append(min(stats.expected_passes.values(), default=float("nan")))

    @property
    def mean_accepted_tokens(self) -> Ratio:
        return ratio(self.tokens, self.passes)

    @property
    def tokens_per_s(self) -> Ratio:
        return ratio(self.tokens, self.seconds)

    @property
    def share_of_best_fixed(self) -> Ratio | None:
        """Passes of the best fixed drafter in hindsight / passes used; None where drafters were not scored."""
        return None if np.isnan(self.best_fixed).any() else ratio(self.best_fixed, self.passes)


@dataclass(frozen=True, slots=True)
class PoliciesReport:
    """results[temperature][domain][policy]; `ALL` is the mix of all domains."""

    max_tokens: int
    results: dict[str, dict[str, dict[str, PolicyResult]]]


async def measure_policies(
    policies: Sequence[Policy],
    prompts: Prompts,
    samplings: Sequence[SamplingParams],
    num_seeds: int,
    advance: Callable[[], None],
) -> PoliciesReport:
    """Decode every prompt with every policy, num_seeds times each. advance: called after every answer."""
    results: dict[str, dict[str, dict[str, PolicyResult]]] = {}
    for sampling in samplings:
        by_domain = results.setdefault(f"{sampling.temperature:g}", {})
        mix = {policy.name: PolicyResult() for policy in policies}
        for domain, domain_prompts in prompts.items():
            row = by_domain[domain] = {policy.name: PolicyResult() for policy in policies}
            for index, prompt_ids, policy in _turns(domain_prompts, policies, num_seeds):
                answer = await measure_answer(policy.service, prompt_ids, sampling, policy.drafter(domain, index))
                await policy.service.drain()  # late scores belong to this answer and must not slow the next one
                row[policy.name].add(answer.stats, answer.seconds)
                mix[policy.name].add(answer.stats, answer.seconds)
                advance()
        by_domain[ALL] = mix
    return PoliciesReport(max((s.max_tokens for s in samplings), default=0), results)


def _turns(
    prompts: Sequence[NDArray[np.int32]], policies: Sequence[Policy], num_seeds: int
) -> Iterator[tuple[int, NDArray[np.int32], Policy]]:
    """Each prompt by all policies in turn; who begins rotates, so that no policy always finds the caches cold."""
    for seed in range(num_seeds):
        for index, prompt_ids in enumerate(prompts):
            first = (seed + index) % len(policies)
            for policy in (*policies[first:], *policies[:first]):
                yield index, prompt_ids, policy


def policies_json(report: PoliciesReport) -> dict[str, object]:
    """The report with its derived ratios, so that a reader of the JSON does not have to compute them."""
    return {
        "max_tokens": report.max_tokens,
        "temperatures": {
            temperature: {
                domain: {
                    name: {
                        "mean_accepted_tokens": result.mean_accepted_tokens,
                        "tokens_per_s": result.tokens_per_s,
                        "share_of_best_fixed": result.share_of_best_fixed,
                        "tokens": result.tokens,
                        "passes": result.passes,
                        "seconds": [round(s, 4) for s in result.seconds],
                    }
                    for name, result in row.items()
                }
                for domain, row in by_domain.items()
            }
            for temperature, by_domain in report.results.items()
        },
    }
