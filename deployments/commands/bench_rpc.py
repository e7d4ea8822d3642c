"""The command `hedgespec bench rpc`: the transport of a round beside a bare gRPC echo."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from deployments.commands.option_types import JsonFile
from deployments.commands.reports import console, progress_bar, write_json
from hedgespec.bench.rpc import RpcReport, bench_rpc, default_shapes


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
    write_json(json, report.as_json(), command="bench rpc", rounds=rounds, repeats=repeats)


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
