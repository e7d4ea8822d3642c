"""Picture (f): excess passes on answers that change domain half-way, by learner and objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hedgespec.bench.figures.looks import MAIN, canonical, look
from hedgespec.bench.figures.picture import Picture, marker_legend_below
from hedgespec.bench.figures.source import Source

STUDY = "shifts"
COLUMNS = ("learner", "objective", "excess", "low", "high")

Row = dict[str, Any]


def picture(source: Source) -> Picture:
    """Make the picture from the study `shifts`."""
    rows = source.rows(STUDY, COLUMNS)
    learners = {row["learner"] for row in rows}
    return Picture(
        "shifts",
        _title(rows),
        {"unit": "passes above the best pair of drafters in hindsight, with 95 % intervals", "rows": rows},
        lambda figure: _draw(figure, rows),
        height_inches=2.2 + 0.42 * len(learners),
    )


def _draw(figure: Any, rows: Sequence[Row]) -> None:
    axes = figure.subplots()
    smallest = {name: min(row["excess"] for row in rows if row["learner"] == name) for name in _names(rows)}
    order = sorted(smallest, key=lambda name: -smallest[name])
    for row in rows:
        colour = _colour(row["learner"], row["objective"])
        face = "white" if row["objective"] == "length" else colour
        height = order.index(row["learner"]) + {"rounds": 0.14, "length": -0.14}.get(row["objective"], 0.0)
        axes.hlines(height, row["low"], row["high"], color=colour, lw=1.8)
        axes.plot(row["excess"], height, "o", color=colour, mfc=face, ms=9, mew=2)
    axes.set_yticks(range(len(order)), order)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("target passes above the best pair of drafters in hindsight, per answer")
    marker_legend_below(figure, axes, {"objective rounds": "#444444", "objective length": "white"})


def _colour(learner: str, objective: str) -> str:
    """Return the policy's or the learner's colour in the other pictures; grey for those that are in no other."""
    drawn = [name for name in (f"{learner} {objective}", learner) if canonical(name) in MAIN]
    return look(drawn[0]).colour if drawn else "#666666"


def _title(rows: Sequence[Row]) -> str:
    """Return the title, with the values of NormalHedge and the default learner."""
    costs = {row["learner"]: row["excess"] for row in rows if row["objective"] == "rounds"}
    shown = [f"{costs[name]:.1f} ({name})" for name in ("normalhedge", "adaptive") if name in costs]
    return "Passes lost on a change of domain" + (f": {', '.join(shown)}" if shown else ", by learner")


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["learner"] for row in rows))
