"""A prompt router for questions, trained on the validation questions of the domains that drafters were made for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

from hedgespec import zoo
from hedgespec.bench.prompt_router import PromptRouter

NUM_EXAMPLES = 100
"""Questions of each domain."""

OF_PUBLISHED = "hedgespec.zoo.smollm2"
"""The package with the domains of the published target's heads, and with questions of each that no head was trained on."""


def question_router(target_model: str, drafter_ids: Sequence[str]) -> PromptRouter | None:
    """Return a router among the drafters whose id is a domain with questions; None with fewer than two of them.

    target_model: `target.model` of the configuration, which says whose domains these are
    """
    domains = _domains(target_model)
    if domains is None:
        return None
    names, questions = domains
    examples = {name: list(questions(name)) for name in names if name in drafter_ids}
    return PromptRouter.train(examples) if len(examples) >= 2 else None


def _domains(target_model: str) -> tuple[Sequence[str], Callable[[str], Sequence[str]]] | None:
    if target_model == "zoo":
        return zoo.DOMAINS, lambda name: zoo.held_out_prompts(name, "validation")
    try:
        domains, made = import_module(OF_PUBLISHED), import_module(f"{OF_PUBLISHED}.questions")
    except ImportError:
        return None
    return domains.DOMAINS, lambda name: made.questions(name, "test", NUM_EXAMPLES)
