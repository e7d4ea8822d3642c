"""`hedgespec bench overheads`: what a round costs on this machine, part by part, and which drafter fits which domain."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.table import Table

from deployments.commands.bench_concurrency import WorkOf
from deployments.commands.reports import console, progress_bar, write_json
from hedgespec.bench.acceptance import to_markdown
from hedgespec.bench.learner import time_learner
from hedgespec.bench.overheads import ARMS, BEST, PLAIN, OverheadReport, measure_overheads, time_feedback
from hedgespec.bench.rpc import RpcCase, RpcShape, bench_rpc
from hedgespec.config import AppArgs, LearnerConfig
from hedgespec.types import SamplingParams

LEARNER_REPEATS = 2048
FEEDBACK_REPEATS = 8
RPC_ROUNDS, RPC_REPEATS = 100, 3


def run_overheads(args: AppArgs, work_of: WorkOf, samplings: Sequence[SamplingParams], json: Path | None) -> None:
    """Raises BadParameter without drafters."""
    num_drafters = len(args.drafters)
    if not num_drafters:
        raise typer.BadParameter("no drafters are configured, so there is nothing to compare")
    case = time_transport(num_drafters)
    learner_us = time_learner(args.learner.name, num_drafters, LEARNER_REPEATS).median_us
    feedback_us = time_feedback(scoring_args(args), FEEDBACK_REPEATS)
    reports = asyncio.run(measure_answers(args, work_of, samplings))
    for report in reports:
        show_rounds(report, learner_us, feedback_us, case)
        console.print(to_markdown(report.acceptance))
    content = {
        "select_and_update_us": learner_us,
        "learner_and_feedback_us": feedback_us,
        "transport": {"round_ms": case.loop.median_ms, "echo_ms": case.echo.median_ms, "ratio": case.loop_ratio},
        "temperatures": {f"{report.temperature:g}": as_json(report) for report in reports},
    }
    write_json(json, content, command="bench overheads", max_tokens=samplings[0].max_tokens)


def time_transport(num_drafters: int) -> RpcCase:
    import uvloop

    shape = RpcShape(num_drafters, 0, 1)
    with progress_bar("transport", 1) as advance:
        return uvloop.run(bench_rpc([shape], RPC_ROUNDS, RPC_REPEATS, lambda case: advance())).cases[0]


def scoring_args(args: AppArgs) -> AppArgs:
    """Everybody is scored throughout, for the default learner: bandits would ask nobody."""
    wide_awake = args.speculation.model_copy(update={"wake_every_rounds": 0, "score_timeout_rounds": 1000})
    return args.model_copy(update={"learner": LearnerConfig(), "speculation": wide_awake})


async def measure_answers(args: AppArgs, work_of: WorkOf, samplings: Sequence[SamplingParams]) -> list[OverheadReport]:
    from hedgespec.assembly.local_service import local_service

    async with local_service(args) as local:
        scoring_service = local.variant(scoring_args(args))
        work = work_of(local.tokenizer)
        rivals = [drafter.id for drafter in args.drafters if drafter.kind != "ngram"] or [d.id for d in args.drafters]
        num_draft_tokens = args.speculation.max_draft_tokens
        with progress_bar("answers", len(samplings) * (1 + len(ARMS)) * sum(map(len, work.values()))) as advance:
            return [
                await measure_overheads(
                    local.service, scoring_service, rivals, num_draft_tokens, work, sampling, advance
                )
                for sampling in samplings
            ]


def show_rounds(report: OverheadReport, learner_us: float, feedback_us: float, case: RpcCase) -> None:
    table = Table(title=f"milliseconds of a round in one process, temperature {report.temperature:g}")
    for column in ("", *ARMS):
        table.add_column(column, justify="right" if column else "left")
    for part in ("draft", "verify", "learn", "overhead"):
        table.add_row(part, *(f"{report.arms[arm].ms(part):.2f}" for arm in ARMS))
    table.add_row("round", *(f"{report.arms[arm].ms():.2f}" for arm in ARMS))
    table.add_row("tokens a round", *(f"{report.arms[arm].mean_accepted_tokens:.2f}" for arm in ARMS))
    table.add_row("tokens/s over plain", *(f"{report.over_plain(arm):.2f}" for arm in ARMS))
    console.print(table)
    best, plain = report.arms[BEST], report.arms[PLAIN]
    for what, value in (
        ("target pass, one token", f"{plain.ms('verify'):.2f} ms"),
        (f"target pass, a draft of {report.max_draft_tokens} verified", f"{best.ms('verify'):.2f} ms"),
        ("head, per draft token", f"{best.ms('draft') / report.max_draft_tokens:.2f} ms"),
        (
            "scoring all drafters and learning",
            f"{report.scoring_ms:.2f} ms a round, {report.scoring_share:.1%} of tokens/s",
        ),
        ("select + update, one position", f"{learner_us:.0f} us"),
        ("learner and feedback, a round with all scores", f"{feedback_us:.0f} us"),
        (
            "transport and router, a round of free models",
            f"{case.loop.median_ms:.2f} ms, {case.loop_ratio:.2f} of an echo",
        ),
    ):
        console.print(f"{what:>46}: {value}")


def as_json(report: OverheadReport) -> dict[str, object]:
    """With the derived figures, so that a reader of the JSON does not have to compute them."""
    return {
        "max_draft_tokens": report.max_draft_tokens,
        "scoring_ms": report.scoring_ms,
        "scoring_share": report.scoring_share,
        "best_single": report.best,
        "arms": {
            arm: {
                "round_ms": times.ms(),
                "parts_ms": {part: times.ms(part) for part in times.parts},
                "tokens_per_s": times.tokens_per_s,
                "over_plain": report.over_plain(arm),
                "mean_accepted_tokens": times.mean_accepted_tokens,
                "rounds": times.num_rounds,
            }
            for arm, times in report.arms.items()
        },
        "acceptance": report.acceptance,
    }
