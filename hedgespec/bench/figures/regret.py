"""Picture (b): passes above those of the best fixed drafter in hindsight, along the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hedgespec.bench.figures.looks import MAIN, canonical, in_order, look
from hedgespec.bench.figures.picture import Picture, legend_below
from hedgespec.bench.figures.source import Source

STUDY = "policies"
CLOSE = ("best expert", "normalhedge length", "normalhedge rounds", "adaptive rounds")
"""The policies of the right panel, which has a larger scale."""


def picture(source: Source) -> Picture:
    """Make the picture from the study `policies`."""
    curves = {
        name: source.numbers("report", STUDY, "figure", name)
        for name in source.at("report", STUDY, "figure")
        if canonical(name) in MAIN
    }
    return Picture(
        "regret",
        _title(curves),
        {"unit": "excess passes up to an output index, mean over answers", "curves": curves},
        lambda figure: _draw(figure, curves),
    )


def _title(curves: Mapping[str, Sequence[float]]) -> str:
    """Return the title, with the values of two policies at the end of the answers."""
    shown = {"NormalHedge": "normalhedge rounds", "UCBSpec": "ucbspec"}
    ends = [f"{label} {curves[name][-1]:.1f}" for label, name in shown.items() if name in curves]
    return "Passes above the best fixed drafter" + (f": {', '.join(ends)}" if ends else "")


def _draw(figure: Any, curves: Mapping[str, Sequence[float]]) -> None:
    every, close = figure.subplots(1, 2)
    names = in_order(list(curves))
    near = [name for name in names if canonical(name) in CLOSE] or names
    for axes, chosen, title in (
        (every, names, "all policies"),
        (close, near, "learners and domain's best drafter, enlarged"),
    ):
        for name in chosen:
            shown, curve = look(name), curves[name]
            every_nth = max(len(curve) // 6, 1)
            axes.plot(
                range(1, len(curve) + 1),
                curve,
                shown.line,
                marker=shown.marker,
                markevery=every_nth,
                color=shown.colour,
                ms=7,
                label=shown.label,
            )
        axes.axhline(0.0, color="#444444", lw=0.9)
        axes.set_xlabel("output index (tokens)")
        axes.set_title(title, loc="left")
    every.set_ylabel("excess target passes")
    legend_below(figure, every, 4)
