"""The command `hedgespec bench policies`: ways to choose drafters, compared on the zoo's domains."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from deployments.commands.bench_questions import compare_on_questions
from deployments.commands.inputs import changed, encoded, held_out_texts, read_args, total_prompts, without_prefix_cache
from deployments.commands.option_types import (
    ConfigInsteadOfModel,
    Domains,
    JsonFile,
    ModelName,
    PromptsOrQuestions,
    QuestionFile,
    Temperatures,
    TenantOption,
)
from deployments.commands.reports import console, progress_bar, show_by_domain, write_json
from hedgespec import zoo
from hedgespec.assembly.local_service import local_service
from hedgespec.bench.policies import (
    ALL,
    PoliciesReport,
    Policy,
    measure_policies,
    more_policies,
    standard_policies,
    tree_policies,
)
from hedgespec.bench.prompt_router import OUT_OF_DOMAIN, PromptRouter, mixed, rewritten
from hedgespec.types import SamplingParams

TEMPERATURES, NUM_TOKENS, NUM_PROMPTS = (0.0, 1.0), 256, 8
FULL_TEMPERATURES, FULL_NUM_TOKENS, FULL_DRAFT_TOKENS = (0.0, 0.6, 1.0), 1024, 8


def policies(
    prompts: QuestionFile = None,
    num_prompts: PromptsOrQuestions = None,
    model: ModelName = None,
    config: ConfigInsteadOfModel = None,
    max_tokens: Annotated[int | None, typer.Option(min=2, help="Tokens of each answer. (default: 256)")] = None,
    temperature: Temperatures = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repeats of every answer.")] = 1,
    domain: Domains = None,
    policy: Annotated[list[str] | None, typer.Option(help="Only this policy; may be repeated.")] = None,
    rewrite: Annotated[bool, typer.Option(help="Mislead the prompt router by a document before each prompt.")] = False,
    full: Annotated[bool, typer.Option(help="Also all learners, trees, temperature 0.6; 1024 tokens: hours.")] = False,
    trees: Annotated[bool, typer.Option(help="Instead compare trees of one and of several drafters.")] = False,
    tenant: TenantOption = "question",
    resume: Annotated[Path | None, typer.Option(help="Journal of a run with --prompts; it goes on from there.")] = None,
    json: JsonFile = None,
) -> None:
    """Compare ways to choose drafters: none, a fixed one, a prompt classifier, bandits and learners.

    By default on the zoo's held-out prompts. With --prompts the questions of a file are put to any target, through its chat
    template and up to its end token; each answer is part of the next turn's prompt.
    """
    if prompts is not None:
        if domain or rewrite or full or trees or seeds > 1:
            raise typer.BadParameter("--domain, --rewrite, --full, --trees and --seeds are for the zoo's own prompts")
        compare_on_questions(
            prompts, num_prompts, model, config, max_tokens or NUM_TOKENS, temperature, policy, tenant, resume, json
        )
        return
    if config is not None or model is not None or resume is not None or tenant != "question":
        raise typer.BadParameter("--model, --config, --tenant and --resume are for questions: give --prompts FILE")
    num_prompts = num_prompts or NUM_PROMPTS
    if trees and (rewrite or full):
        raise typer.BadParameter("--trees is a comparison of its own; leave out --rewrite and --full")
    args = without_prefix_cache(read_args(None))
    temperatures = temperature or (FULL_TEMPERATURES if full else TEMPERATURES)
    num_tokens = max_tokens or (FULL_NUM_TOKENS if full else NUM_TOKENS)
    if full:
        args = changed(args, "speculation", max_draft_tokens=FULL_DRAFT_TOKENS)
    texts = held_out_texts(domain, num_prompts)
    if rewrite:
        texts = rewritten(texts, {d: zoo.held_out_prompts(d)[num_prompts:] for d in zoo.DOMAINS})
    if trees:
        if len(texts) > 1:
            texts["mixed"] = mixed(texts, 2 * num_prompts)
        texts["out of domain"] = list(OUT_OF_DOMAIN[: 2 * num_prompts])
        router, routed = None, {}
    else:
        router = PromptRouter.train({d: zoo.held_out_prompts(d, "validation") for d in zoo.DOMAINS})
        routed = {d: [router.domain(text) for text in row] for d, row in texts.items()}

    async def run() -> PoliciesReport:
        async with local_service(args) as local:
            chosen = tree_policies(args, local.variant) if trees else standard_policies(args, local.variant, routed)
            if full:
                chosen += more_policies(args, local.variant)
            chosen = named(chosen, policy)
            work = encoded(local.tokenizer, texts)
            samplings = [SamplingParams(temperature=t, max_tokens=num_tokens, ignore_eos=True) for t in temperatures]
            num_answers = len(chosen) * len(samplings) * seeds * total_prompts(work)
            with progress_bar("decoding", num_answers) as advance:
                return await measure_policies(chosen, work, samplings, seeds, advance)

    report = asyncio.run(run())
    for temperature_name, by_domain in report.results.items():
        show_by_domain(by_domain, f"temperature {temperature_name}, answers of {report.max_tokens} tokens", total=ALL)
    settings: dict[str, object] = {
        "num_prompts": num_prompts,
        "seeds": seeds,
        "rewrite": rewrite,
        "full": full,
        "trees": trees,
    }
    if router is not None:
        accuracy = settings["router_accuracy"] = router.accuracy(texts)
        console.print(f"The prompt router sends {accuracy:.0%} of these prompts to their own domain's drafter.")
    write_json(json, report, command="bench policies", **settings)


def named(policies: list[Policy], names: list[str] | None) -> list[Policy]:
    """Return the policies with these names, or all. Raises BadParameter for an unknown name."""
    if not names:
        return policies
    unknown = sorted(set(names) - {p.name for p in policies})
    if unknown:
        raise typer.BadParameter(f"no such policy: {unknown}; there are {[p.name for p in policies]}")
    return [p for p in policies if p.name in names]
