"""(f) Excess passes on answers that change domain half-way, by learner and objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hedgespec.bench.figures.looks import MAIN, canonical, look
from hedgespec.bench.figures.picture import Picture
from hedgespec.bench.figures.source import Source

STUDY = "shifts"
COLUMNS = ("learner", "objective", "excess", "low", "high")

Row = dict[str, Any]


def picture(source: Source) -> Picture:
    rows = [
        {column: source.at("report", STUDY, "rows", row, column) for column in COLUMNS}
        for row in range(len(source.at("report", STUDY, "rows")))
    ]
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
        place = order.index(row["learner"]) + {"rounds": 0.14, "length": -0.14}.get(row["objective"], 0.0)
        axes.hlines(place, row["low"], row["high"], color=colour, lw=1.8)
        axes.plot(row["excess"], place, "o", color=colour, mfc=face, ms=9, mew=2)
    axes.set_yticks(range(len(order)), order)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("target passes above the best pair of drafters in hindsight, per answer")
    handles = [
        axes.plot([], [], "o", color="#444444", mfc=face, ms=9, mew=2, label=f"objective {objective}")[0]
        for objective, face in (("rounds", "#444444"), ("length", "white"))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)


def _colour(learner: str, objective: str) -> str:
    """The policy's, or the learner's, as in the other pictures; grey for those that are in no other."""
    known = [name for name in (f"{learner} {objective}", learner) if canonical(name) in MAIN]
    return look(known[0]).colour if known else "#666666"


def _title(rows: Sequence[Row]) -> str:
    """With the figures of the two learners that are shipped, where they are among the rows."""
    costs = {row["learner"]: row["excess"] for row in rows if row["objective"] == "rounds"}
    told = [f"{costs[name]:.1f} ({name})" for name in ("normalhedge", "adaptive") if name in costs]
    return "Passes lost on a change of domain" + (f": {', '.join(told)}" if told else ", by learner")


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["learner"] for row in rows))
