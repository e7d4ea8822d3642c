"""Picture (c): how close policies come to the best fixed drafter when there are more drafters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hedgespec.bench.figures.looks import in_order, look
from hedgespec.bench.figures.picture import Picture
from hedgespec.bench.figures.source import Source

STUDY = "pool_size"


def picture(source: Source) -> Picture:
    """Make the picture from the study `pool_size`."""
    rows = range(len(source.at("report", STUDY, "rows")))
    sizes = [source.number("report", STUDY, "rows", row, "drafters") for row in rows]
    names = [name for name in source.at("report", STUDY, "rows", 0) if name != "drafters"]
    curves = {name: [source.number("report", STUDY, "rows", row, name) for row in rows] for name in names}
    return Picture(
        "pool_size",
        _title(sizes, curves),
        {"unit": "passes of the best fixed drafter / passes of the policy", "drafters": sizes, "curves": curves},
        lambda figure: _draw(figure, sizes, curves),
    )


def _title(sizes: Sequence[float], curves: Mapping[str, Sequence[float]]) -> str:
    shown = {"NormalHedge": "normalhedge", "tuned UCB": "tuned ucb"}
    shares = [f"{label} keeps {curves[name][-1]:.0%}" for label, name in shown.items() if name in curves]
    return f"Best fixed drafter of {sizes[-1]:g}" + (f": {', '.join(shares)} of it" if shares else " and the policies")


def _draw(figure: Any, sizes: Sequence[float], curves: Mapping[str, Sequence[float]]) -> None:
    axes = figure.subplots()
    for name in in_order(list(curves)):
        shown = look(name)
        percent = [100.0 * value for value in curves[name]]
        axes.plot(sizes, percent, marker=shown.marker, ms=9, color=shown.colour, label=shown.label)
    axes.axhline(100.0, color="#444444", lw=0.9)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axes.set_xlabel("number of drafters N")
    axes.set_ylabel("share of the best fixed drafter (%)")
    axes.legend(loc="best")
