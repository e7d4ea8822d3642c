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
from hedgespec.catalogue import LEARNERS
from hedgespec.config import AppArgs
from hedgespec.router.service import GenerationService
from hedgespec.types import SamplingParams

Prompts = Mapping[str, Sequence[NDArray[np.int32]]]
"""domain -> prompts as token ids"""

ALL = "all domains"
"""The name under which the answers of all domains are summed up."""


LEARNED: tuple[tuple[str, str, str], ...] = (
    ("ucbspec", "ucbspec", "rounds"),
    ("exp3spec", "exp3spec", "rounds"),
    ("tuned ucb", "ucb_tuned", "rounds"),
    ("normalhedge length", "normalhedge", "length"),
    ("normalhedge rounds", "normalhedge", "rounds"),
    ("adaptive rounds", "adaptive", "rounds"),
)
"""Policies that choose in every round: (name, learner, objective). Bandits see only the outcomes of their own choices."""


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
        return {"max_tokens": self.max_tokens, "temperatures": self.results}


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


def standard_policies(
    args: AppArgs, variant: Callable[[AppArgs], GenerationService], routed: Mapping[str, Sequence[str]]
) -> list[Policy]:
    """Return plain decoding, fixed and random drafters, the prompt router, and the learners of LEARNED.

    variant: makes a service over the shared models with other settings
    routed:  domain -> the drafter that the prompt router picks for each prompt
    """
    service = variant(args)
    policies = [
        Policy("plain", service, lambda domain, index: "none"),
        Policy("generic", service, lambda domain, index: "generic"),
        Policy("best expert", service, lambda domain, index: domain),
        Policy("random", service, lambda domain, index: "random"),
        Policy("prompt router", service, lambda domain, index: routed[domain][index]),
    ]
    return policies + [
        Policy(name, variant(with_learner(args, learner, objective)), _learned) for name, learner, objective in LEARNED
    ]


def more_policies(args: AppArgs, variant: Callable[[AppArgs], GenerationService]) -> list[Policy]:
    """Return the policies that `--full` adds: every other learner, and draft trees of one drafter and of two."""
    compared = {learner for _, learner, _ in LEARNED}
    policies = [
        Policy(f"{name} rounds", variant(with_learner(args, name, "rounds")), _learned)
        for name in LEARNERS.names()
        if name not in compared
    ]
    trees = {"tree": 1, "merged trees": 2}
    return policies + [Policy(name, variant(with_trees(args, count)), _learned) for name, count in trees.items()]


def tree_policies(args: AppArgs, variant: Callable[[AppArgs], GenerationService]) -> list[Policy]:
    """Return the policies of `--trees`, which have equally many nodes: each drafter's tree, the learner's choice, and merged
    trees of two and three drafters."""
    alone = variant(with_trees(args, 1))
    policies = [Policy(f"tree of {drafter.id}", alone, _pinned(drafter.id)) for drafter in args.drafters]
    merged = {f"merged trees of {count}": variant(with_trees(args, count)) for count in (2, 3)}
    return [*policies, Policy("tree", alone, _learned), *(Policy(name, own, _learned) for name, own in merged.items())]


def with_learner(args: AppArgs, learner: str, objective: str) -> AppArgs:
    """Return the configuration with another learner."""
    changed = args.learner.model_copy(update={"name": learner, "objective": objective})
    return args.model_copy(update={"learner": changed})


def with_trees(args: AppArgs, num_merged: int) -> AppArgs:
    """Return the configuration with draft trees of 12 nodes, from num_merged drafters, chosen by passes: a merged tree is
    several drafters' and has no time of one of them."""
    args = with_learner(args, args.learner.name, "rounds")
    changed = {"draft_form": "tree", "branching": 4, "num_nodes": 12, "merge_drafters": num_merged}
    return args.model_copy(update={"speculation": args.speculation.model_copy(update=changed)})


def _pinned(drafter_id: str) -> Callable[[str, int], str | None]:
    return lambda domain, index: drafter_id


def _learned(domain: str, index: int) -> None:
    return None
