"""The commands `hedgespec bench overheads` and `acceptance`: a round's parts, and every drafter's acceptance by domain."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import typer

from deployments.commands.inputs import (
    asked,
    changed,
    encoded,
    held_out_texts,
    read_args,
    test_questions,
    total_prompts,
    without_prefix_cache,
)
from deployments.commands.model_choice import chosen_args
from deployments.commands.option_types import ConfigFile, Domains, JsonFile, MaxTokens, NumPrompts, Temperatures
from deployments.commands.reports import console, progress_bar, show_table, write_json
from hedgespec import zoo
from hedgespec.assembly.local_service import local_service
from hedgespec.bench.acceptance import AcceptanceTable, measure_acceptance, to_markdown
from hedgespec.bench.answers import PLAIN
from hedgespec.bench.learner import time_learner
from hedgespec.bench.overheads import ARMS, BEST, OverheadReport, measure_overheads, time_feedback
from hedgespec.bench.rpc import RpcCase, RpcShape, bench_rpc
from hedgespec.config import AppArgs, LearnerConfig
from hedgespec.types import SamplingParams
from hedgespec.zoo.smollm2 import heads as smollm2

TEMPERATURES = (0.0, 1.0)
LEARNER_REPEATS = 2048
FEEDBACK_REPEATS = 8
RPC_ROUNDS, RPC_REPEATS = 100, 3


def acceptance(
    model: Annotated[Literal["zoo", "smollm2"], typer.Option(help="Whose heads.")] = "zoo",
    num_prompts: NumPrompts = 24,
    max_tokens: MaxTokens = 128,
    draft_tokens: Annotated[int, typer.Option(min=1, max=16, help="Longest draft, in tokens.")] = 5,
    card: Annotated[bool, typer.Option(help="Write the table into the card beside the weights.")] = False,
    json: JsonFile = None,
) -> None:
    """Mean accepted tokens of every drafter in every domain, at temperatures 0 and 1."""
    from hedgespec.zoo.acceptance_table import write_acceptance_table

    always_exact = {"score_depth": "exact", "score_timeout_rounds": 1000, "sleep_weight": 0.0}
    args = changed(chosen_args(None, model), "speculation", max_draft_tokens=draft_tokens, **always_exact)
    args = changed(args, "learner", objective="rounds")
    texts = held_out_texts(None, num_prompts) if model == "zoo" else test_questions(num_prompts)

    async def run() -> AcceptanceTable:
        async with local_service(args) as local:
            work = encoded(local.tokenizer, texts) if model == "zoo" else asked(local.tokenizer, texts)
            with progress_bar("scoring", len(TEMPERATURES) * total_prompts(work)) as advance:
                return await measure_acceptance(local.service, work, TEMPERATURES, draft_tokens, max_tokens, advance)

    table = asyncio.run(run())
    markdown = to_markdown(table)
    console.print(markdown)
    if card:
        write_acceptance_table(markdown, zoo.ZOO_DIR if model == "zoo" else smollm2.HEADS_DIR)
    write_json(json, table, command="bench acceptance", model=model)


def overheads(
    num_prompts: NumPrompts = 1,
    max_tokens: MaxTokens = 256,
    temperature: Temperatures = None,
    domain: Domains = None,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Time of the parts of a round on this machine: target pass, draft, scores, learner, transport.

    Also prints the mean accepted tokens of every drafter in every domain.
    """
    args = without_prefix_cache(read_args(config))
    num_drafters = len(args.drafters)
    if not num_drafters:
        raise typer.BadParameter("no drafters are configured, so there is nothing to compare")
    samplings = [
        SamplingParams(temperature=t, max_tokens=max_tokens, ignore_eos=True) for t in temperature or TEMPERATURES
    ]
    texts = held_out_texts(domain, num_prompts)
    case = time_transport(num_drafters)
    learner_us = time_learner(args.learner.name, num_drafters, LEARNER_REPEATS).median_us
    feedback_us = time_feedback(scoring_args(args), FEEDBACK_REPEATS)
    reports = asyncio.run(measure_answers(args, texts, samplings))
    for report in reports:
        show_rounds(report, learner_us, feedback_us, case)
        console.print(to_markdown(report.acceptance))
    loop_ms = case.costs["loop"].median_ms
    content = {
        "select_and_update_us": learner_us,
        "learner_and_feedback_us": feedback_us,
        "transport": {"round_ms": loop_ms, "echo_ms": case.costs["echo"].median_ms, "ratio": case.loop_ratio},
        "temperatures": {f"{report.temperature:g}": report for report in reports},
    }
    write_json(json, content, command="bench overheads", max_tokens=max_tokens)


def time_transport(num_drafters: int) -> RpcCase:
    """Measure rounds of models that cost nothing."""
    import uvloop

    shape = RpcShape(num_drafters, 0, 1)
    with progress_bar("transport", 1) as advance:
        return uvloop.run(bench_rpc([shape], RPC_ROUNDS, RPC_REPEATS, advance)).cases[0]


def scoring_args(args: AppArgs) -> AppArgs:
    """Return the configuration with the default learner, which scores (bandits do not), and with no drafter asleep."""
    args = changed(args, "speculation", wake_every_rounds=0, score_timeout_rounds=1000)
    return args.model_copy(update={"learner": LearnerConfig()})


async def measure_answers(
    args: AppArgs, texts: Mapping[str, Sequence[str]], samplings: Sequence[SamplingParams]
) -> list[OverheadReport]:
    """Measure the arms with each of the sampling parameters. texts: by domain."""
    async with local_service(args) as local:
        scoring_service = local.variant(scoring_args(args))
        work = encoded(local.tokenizer, texts)
        rivals = [drafter.id for drafter in args.drafters if drafter.kind != "ngram"] or [d.id for d in args.drafters]
        num_draft_tokens = args.speculation.max_draft_tokens
        with progress_bar("answers", len(samplings) * (1 + len(ARMS)) * total_prompts(work)) as advance:
            return [
                await measure_overheads(
                    local.service, scoring_service, rivals, num_draft_tokens, work, sampling, advance
                )
                for sampling in samplings
            ]


def show_rounds(report: OverheadReport, learner_us: float, feedback_us: float, case: RpcCase) -> None:
    """Print the parts of a round by arm, then what single steps cost."""
    rows = {
        **{
            part: [report.arms[arm].parts_ms[part] for arm in ARMS] for part in ("draft", "verify", "learn", "overhead")
        },
        "round": [report.arms[arm].round_ms for arm in ARMS],
        "tokens per round": [report.arms[arm].mean_accepted_tokens.value for arm in ARMS],
        "tokens/s over plain": [report.over_plain(arm) for arm in ARMS],
    }
    title = f"milliseconds of a round in one process, temperature {report.temperature:g}"
    show_table(title, ("", *ARMS), [(name, *(f"{value:.2f}" for value in row)) for name, row in rows.items()])
    best, plain = report.arms[BEST].parts_ms, report.arms[PLAIN].parts_ms
    for what, value in (
        ("target pass, one token", f"{plain['verify']:.2f} ms"),
        (f"target pass, a draft of {report.max_draft_tokens} verified", f"{best['verify']:.2f} ms"),
        ("head, per draft token", f"{best['draft'] / report.max_draft_tokens:.2f} ms"),
        (
            "scoring all drafters and learning",
            f"{report.scoring_ms:.2f} ms per round, {report.scoring_share:.1%} of tokens/s",
        ),
        ("select + update, one position", f"{learner_us:.0f} us"),
        ("learner and feedback, a round with all scores", f"{feedback_us:.0f} us"),
        (
            "transport and router, a round without models",
            f"{case.costs['loop'].median_ms:.2f} ms, {case.loop_ratio:.2f} of an echo",
        ),
    ):
        console.print(f"{what:>46}: {value}")
