"""The command `hedgespec bench learner`: the time of every learner, and with --slope how NormalHedge's regret grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from deployments.commands.option_types import JsonFile
from deployments.commands.reports import console, progress_bar, show_table, write_json
from hedgespec.bench.learner import NAMES, LearnerTime, RegretGrowth, measure_growth, time_learner

NUM_EXPERTS = (8, 32, 128)


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
