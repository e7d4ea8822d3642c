"""The sets of policies that `hedgespec bench policies` compares, over one set of models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hedgespec.bench.policies import Policy
from hedgespec.catalogue import LEARNERS
from hedgespec.config import AppArgs, DraftFormName
from hedgespec.router.service import GenerationService

GENERIC = "generic"
PROMPT_ROUTER = "prompt router"

LEARNED: tuple[tuple[str, str, str], ...] = (
    ("ucbspec", "ucbspec", "rounds"),
    ("exp3spec", "exp3spec", "rounds"),
    ("tuned ucb", "ucb_tuned", "rounds"),
    ("normalhedge length", "normalhedge", "length"),
    ("normalhedge rounds", "normalhedge", "rounds"),
    ("adaptive rounds", "adaptive", "rounds"),
)
"""Policies that choose in every round: (name, learner, objective). Bandits see only the outcomes of their own choices."""


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
        Policy(GENERIC, service, lambda domain, index: GENERIC),
        Policy("best expert", service, lambda domain, index: domain),
        Policy("random", service, lambda domain, index: "random"),
        Policy(PROMPT_ROUTER, service, lambda domain, index: routed[domain][index]),
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
    trees: tuple[tuple[str, DraftFormName, int], ...] = (("tree", "tree", 1), ("merged trees", "tree", 2))
    for name, form, num_merged in trees:
        policies.append(Policy(name, variant(with_form(args, form, num_merged)), _learned))
    return policies


def tree_policies(args: AppArgs, variant: Callable[[AppArgs], GenerationService]) -> list[Policy]:
    """Return the policies of `--trees`, which have equally many nodes: each drafter's tree, the learner's choice, and merged
    trees of two and three drafters."""
    alone = variant(with_form(args, "tree", 1))
    policies = [Policy(f"tree of {drafter.id}", alone, _pinned(drafter.id)) for drafter in args.drafters]
    merged = {f"merged trees of {count}": variant(with_form(args, "tree", count)) for count in (2, 3)}
    return [*policies, Policy("tree", alone, _learned), *(Policy(name, own, _learned) for name, own in merged.items())]


def with_learner(args: AppArgs, learner: str, objective: str) -> AppArgs:
    """Return the configuration with another learner."""
    changed = args.learner.model_copy(update={"name": learner, "objective": objective})
    return args.model_copy(update={"learner": changed})


def with_form(args: AppArgs, form: DraftFormName, num_merged: int) -> AppArgs:
    """Return the configuration with another draft form, of 12 nodes, from num_merged drafters."""
    changed = {"draft_form": form, "branching": 4, "num_nodes": 12, "merge_drafters": num_merged}
    return args.model_copy(update={"speculation": args.speculation.model_copy(update=changed)})


def _pinned(drafter_id: str) -> Callable[[str, int], str | None]:
    return lambda domain, index: drafter_id


def _learned(domain: str, index: int) -> None:
    return None
