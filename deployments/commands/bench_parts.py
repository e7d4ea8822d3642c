"""The commands `hedgespec bench rpc` and `hedgespec bench learner`: the costs of a round's parts that need no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table

from deployments.commands.option_types import JsonFile
from deployments.commands.reports import console, progress_bar, show_table, write_json
from hedgespec.bench.learner import NAMES, LearnerTime, RegretGrowth, measure_growth, time_learner
from hedgespec.bench.rpc import RpcReport, bench_rpc, default_shapes

NUM_EXPERTS = (8, 32, 128)


def rpc(
    rounds: Annotated[int, typer.Option(min=10, help="Rounds per measurement, shared by the sessions.")] = 200,
    repeats: Annotated[int, typer.Option(min=1, help="Repeats of every measurement.")] = 5,
    grouped: Annotated[bool, typer.Option(help="Also measure with all drafters in one process.")] = True,
    json: JsonFile = None,
) -> None:
    """Time of a round over gRPC, without models, beside a bare echo with the same messages."""
    import uvloop

    shapes = default_shapes(grouped)
    with progress_bar("cases", len(shapes)) as advance:
        report = uvloop.run(bench_rpc(shapes, rounds, repeats, advance))
    show_rpc(report)
    write_json(json, report, command="bench rpc", rounds=rounds, repeats=repeats)


def show_rpc(report: RpcReport) -> None:
    """Print a row per shape."""
    table = Table(
        title="milliseconds of a round (medians): bare echo, our stream, the decode loop, the loop without transport",
        box=None,
        padding=(0, 2, 0, 0),
        caption="shape: sessions x drafters (g: all in one process) / ids per draft distribution; sched: the loop with "
        "scores on the default schedule; r: loop / echo; rmin: r of the shortest times; r1: loop / echo with one message "
        "per group; CPU: milliseconds of the router in loop; /s: rounds per second in loop",
    )
    columns = "shape,echo,wire,loop,sched,local,r,rmin,r1,CPU,/s"
    for column in columns.split(","):
        table.add_column(column, justify="left" if column == "shape" else "right", no_wrap=True)
    for case in report.cases:
        shape = case.shape
        group = "g" if shape.is_grouped else ""
        costs, loop = case.costs, case.costs["loop"]
        joined = f"{loop.ratio_to(costs['joined_echo']):.2f}" if shape.is_grouped else ""
        table.add_row(
            f"{shape.num_sessions}x{shape.num_drafters}{group}/{shape.num_sparse_ids}",
            *(f"{costs[name].median_ms:.2f}" for name in ("echo", "wire", "loop", "scheduled", "local")),
            f"{case.loop_ratio:.2f}",
            f"{case.loop_min_ratio:.2f}",
            joined,
            f"{loop.median_cpu_ms:.2f}",
            f"{case.rounds_per_s:.0f}",
        )
    console.print(table)
    console.print(f"worst ratio of the decode loop to the echo: {report.worst_loop_ratio:.2f}")


def learner(
    repeats: Annotated[int, typer.Option(min=10, help="Timed updates per learner and number of experts.")] = 4096,
    slope: Annotated[bool, typer.Option("--slope", help="Also measure how NormalHedge's regret grows.")] = False,
    seeds: Annotated[int, typer.Option(min=2, help="Runs that the slope of --slope is computed from.")] = 200,
    json: JsonFile = None,
) -> None:
    """Time of one choice and one update of every learner, over 8, 32 and 128 drafters."""
    times: list[LearnerTime] = []
    with progress_bar("timing", len(NAMES) * len(NUM_EXPERTS)) as advance:
        for name in NAMES:
            for num_experts in NUM_EXPERTS:
                times.append(time_learner(name, num_experts, repeats))
                advance()
    show_times(times)
    growth: RegretGrowth | None = None
    if slope:
        horizons = [2**power for power in range(8, 17)]
        with progress_bar("regret", len(horizons)) as advance:
            growth = measure_growth(8, seeds, horizons, advance)
        show_growth(growth)
    write_json(json, {"times": times, "growth": growth}, command="bench learner", repeats=repeats)


def show_times(times: Sequence[LearnerTime]) -> None:
    """Print a row per learner."""
    rows: dict[str, list[str]] = {}
    for t in times:
        rows.setdefault(t.learner, [t.learner]).append(f"{t.median_us:.1f} ({t.low_us:.0f}-{t.high_us:.0f})")
    title = "microseconds of one choice and one update: median (10th to 90th percentile)"
    show_table(title, ("learner", *(f"{count} drafters" for count in NUM_EXPERTS)), rows.values())


def show_growth(growth: RegretGrowth) -> None:
    """Print the regret at every horizon and its slope."""
    pairs = zip(growth.horizons, growth.mean_regret, strict=True)
    title = f"regret of NormalHedge on fair coins, {growth.num_experts} drafters, {growth.num_seeds} seeds"
    show_table(title, ("updates", "mean regret"), [(str(horizon), f"{regret:.1f}") for horizon, regret in pairs])
    console.print(
        f"log-log slope {growth.slope:.3f} +- {growth.standard_error:.3f} (0.5 is growth with the square root)"
    )
