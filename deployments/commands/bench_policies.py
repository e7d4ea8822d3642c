"""`hedgespec bench policies`: ways to choose drafters, live over the zoo's domains."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from deployments.commands.loading import read_args, without_prefix_cache
from deployments.commands.reports import console, progress_bar, write_json
from hedgespec import zoo
from hedgespec.bench.foreign_text import OUT_OF_DOMAIN, mixed
from hedgespec.bench.policies import PoliciesReport, Policy, measure_policies, policies_json
from hedgespec.bench.prompt_router import PromptRouter, rewritten
from hedgespec.config import AppArgs
from hedgespec.types import SamplingParams

FULL_TEMPERATURES, FULL_MAX_TOKENS, FULL_DRAFT_TOKENS = (0.0, 0.6, 1.0), 1024, 8


def policies(
    prompts: Annotated[int, typer.Option(min=1, help="Held-out prompts per domain.")] = 8,
    max_tokens: Annotated[int, typer.Option(min=2)] = 256,
    temperature: Annotated[list[float] | None, typer.Option(help="May be repeated; default: 0 and 1.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repeats of every answer.")] = 1,
    domain: Annotated[list[str] | None, typer.Option(help="Only this domain; may be repeated.")] = None,
    policy: Annotated[list[str] | None, typer.Option(help="Only this policy; may be repeated.")] = None,
    rewrite: Annotated[
        bool,
        typer.Option(help="Put each prompt behind a document of another domain, which misleads the prompt router."),
    ] = False,
    full: Annotated[
        bool, typer.Option(help="Also temperature 0.6, 1024 tokens, draft length 8, trees and every learner: hours.")
    ] = False,
    trees: Annotated[
        bool,
        typer.Option(help="Instead: trees of one drafter and of several merged, also on mixed and out-of-domain text."),
    ] = False,
    json: Annotated[Path | None, typer.Option("--json", help="Also write the report to this file.")] = None,
) -> None:
    """Plain decoding, fixed drafters, a prompt classifier, bandits and learners side by side, with intervals."""
    from hedgespec.assembly.local_service import local_service
    from hedgespec.bench.policy_sets import more_policies, standard_policies, tree_policies

    if trees and (rewrite or full):
        raise typer.BadParameter("--trees is a comparison of its own; leave out --rewrite and --full")
    args = without_prefix_cache(read_args(None))
    temperatures: Sequence[float] = temperature or (0.0, 1.0)
    if full:
        temperatures, max_tokens = temperature or FULL_TEMPERATURES, FULL_MAX_TOKENS
        args = with_draft_tokens(args, FULL_DRAFT_TOKENS)
    texts = {d: zoo.held_out_prompts(d)[:prompts] for d in checked_domains(domain)}
    if rewrite:
        texts = rewritten(texts, {d: zoo.held_out_prompts(d)[prompts:] for d in zoo.DOMAINS})
    if trees:
        if len(texts) > 1:
            texts["mixed"] = mixed(texts, 2 * prompts)
        texts["out of domain"] = list(OUT_OF_DOMAIN[: 2 * prompts])
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
            work = {d: [local.tokenizer.encode(text) for text in row] for d, row in texts.items()}
            samplings = [SamplingParams(temperature=t, max_tokens=max_tokens, ignore_eos=True) for t in temperatures]
            num_answers = len(chosen) * len(samplings) * seeds * sum(map(len, work.values()))
            with progress_bar("decoding", num_answers) as advance:
                return await measure_policies(chosen, work, samplings, seeds, advance)

    report = asyncio.run(run())
    show_policies(report)
    settings: dict[str, object] = {"prompts": prompts, "seeds": seeds, "rewrite": rewrite, "full": full, "trees": trees}
    if router is not None:
        accuracy = settings["router_accuracy"] = router.accuracy(texts)
        console.print(f"The prompt router sends {accuracy:.0%} of these prompts to their own domain's drafter.")
    write_json(json, policies_json(report), command="bench policies", **settings)


def with_draft_tokens(args: AppArgs, num_draft_tokens: int) -> AppArgs:
    speculation = args.speculation.model_copy(update={"max_draft_tokens": num_draft_tokens})
    return args.model_copy(update={"speculation": speculation})


def checked_domains(chosen: list[str] | None) -> Sequence[str]:
    unknown = sorted(set(chosen or ()) - set(zoo.DOMAINS))
    if unknown:
        raise typer.BadParameter(f"no such domain: {unknown}; there are {list(zoo.DOMAINS)}")
    return chosen or zoo.DOMAINS


def named(policies: list[Policy], names: list[str] | None) -> list[Policy]:
    if not names:
        return policies
    unknown = sorted(set(names) - {p.name for p in policies})
    if unknown:
        raise typer.BadParameter(f"no such policy: {unknown}; there are {[p.name for p in policies]}")
    return [p for p in policies if p.name in names]


def show_policies(report: PoliciesReport) -> None:
    for temperature, by_domain in report.results.items():
        for title, pick in (("mean accepted tokens", "mean_accepted_tokens"), ("tokens/s", "tokens_per_s")):
            table = Table(title=f"{title}, temperature {temperature}, answers of {report.max_tokens} tokens")
            table.add_column("policy")
            for domain in by_domain:
                table.add_column(domain, justify="right")
            for name in next(iter(by_domain.values())):
                cells = [getattr(row[name], pick) for row in by_domain.values()]
                shown = [f"{cell.value:.2f}" for cell in cells[:-1]] + [str(cells[-1])]
                table.add_row(name, *shown)
            console.print(table)
