"""The table and the JSON of `hedgespec bench rpc`."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from deployments.commands.reports import console
from hedgespec.bench.rpc import RoundCost, RpcCase, RpcReport


def show_rpc(report: RpcReport) -> None:
    table = Table(
        title="milliseconds of a round (medians): bare echo, our wire, the decode loop, in one process",
        box=None,
        padding=(0, 2, 0, 0),
        caption="shape: sessions x drafters (g: grouped) / ids per q; sched: scores on the default schedule; "
        "r: loop/echo; rmin: of the minima; r1: to an echo with one message per group; "
        "CPU: of the router in loop; /s: rounds per second of loop",
    )
    columns = "shape,echo,wire,loop,sched,local,r,rmin,r1,CPU,/s"
    for column in columns.split(","):
        table.add_column(column, justify="left" if column == "shape" else "right", no_wrap=True)
    for case in report.cases:
        shape = case.shape
        group = "g" if shape.is_grouped else ""
        joined = "" if case.joined_echo is None else f"{case.loop.ratio_to(case.joined_echo):.2f}"
        times = (case.echo, case.wire, case.loop, case.scheduled, case.local)
        table.add_row(
            f"{shape.num_sessions}x{shape.num_drafters}{group}/{shape.num_sparse_ids}",
            *(f"{cost.median_ms:.2f}" for cost in times),
            f"{case.loop_ratio:.2f}",
            f"{case.loop_min_ratio:.2f}",
            joined,
            f"{case.loop.median_cpu_ms:.2f}",
            f"{case.rounds_per_s:.0f}",
        )
    console.print(table)
    console.print(f"worst ratio of the decode loop to the echo: {report.worst_loop_ratio:.2f}")


def rpc_json(report: RpcReport) -> Mapping[str, object]:
    """The report with its derived figures, so that a reader of the JSON does not have to compute them."""
    return {
        "num_rounds": report.num_rounds,
        "num_repeats": report.num_repeats,
        "worst_loop_ratio": report.worst_loop_ratio,
        "cases": [_case(case) for case in report.cases],
    }


def _case(case: RpcCase) -> Mapping[str, object]:
    costs = {"echo": case.echo, "wire": case.wire, "loop": case.loop, "scheduled": case.scheduled, "local": case.local}
    if case.joined_echo is not None:
        costs["joined_echo"] = case.joined_echo
    return {
        "shape": case.shape,
        "loop_ratio": case.loop_ratio,
        "loop_min_ratio": case.loop_min_ratio,
        "rounds_per_s": case.rounds_per_s,
        **{name: _cost(cost, case.echo) for name, cost in costs.items()},
    }


def _cost(cost: RoundCost, echo: RoundCost) -> Mapping[str, object]:
    return {
        "min_ms": cost.min_ms,
        "median_ms": cost.median_ms,
        "median_cpu_ms": cost.median_cpu_ms,
        "ratio_to_echo": cost.ratio_to(echo),
        "wall_ms": cost.wall_ms,
        "cpu_ms": cost.cpu_ms,
    }
