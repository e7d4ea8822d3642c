"""The pictures of the studies of `hedgespec simulate study`, by the study that each is made from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hedgespec.bench.figures.looks import MAIN, canonical, drafter_colour, in_order, look
from hedgespec.bench.figures.picture import Picture, legend_below, marker_legend_below, titled
from hedgespec.bench.figures.source import Source

CLOSE = ("best expert", "normalhedge length", "normalhedge rounds", "adaptive rounds")
"""The policies of the right panel, which has a larger scale."""

Curves = Mapping[str, Mapping[str, Sequence[float]]]
"""learner -> drafter -> weight by number of scored tokens"""

Row = Mapping[str, Any]


def regret(source: Source) -> Picture:
    """Draw passes above those of the best fixed drafter in hindsight, along the answer, from the study `policies`."""
    curves = {
        name: source.numbers("report", "policies", "figure", name)
        for name in source.at("report", "policies", "figure")
        if canonical(name) in MAIN
    }
    shown = {"NormalHedge": "normalhedge rounds", "UCBSpec": "ucbspec"}
    ends = [f"{label} {curves[name][-1]:.1f}" for label, name in shown.items() if name in curves]
    return Picture(
        "regret",
        titled("Passes above the best fixed drafter", ends),
        {"unit": "excess passes up to an output index, mean over answers", "curves": curves},
        lambda figure: _draw_regret(figure, curves),
    )


def _draw_regret(figure: Any, curves: Mapping[str, Sequence[float]]) -> None:
    every, close = figure.subplots(1, 2)
    names = in_order(list(curves))
    near = [name for name in names if canonical(name) in CLOSE] or names
    for axes, chosen, title in (
        (every, names, "all policies"),
        (close, near, "learners and domain's best drafter, enlarged"),
    ):
        for name in chosen:
            shown, curve = look(name), curves[name]
            marks = {"marker": shown.marker, "markevery": max(len(curve) // 6, 1), "ms": 7}
            axes.plot(range(1, len(curve) + 1), curve, shown.line, color=shown.colour, label=shown.label, **marks)
        axes.axhline(0.0, color="#444444", lw=0.9)
        axes.set_xlabel("output index (tokens)")
        axes.set_title(title, loc="left")
    every.set_ylabel("excess target passes")
    legend_below(figure, every, 4)


def pool_size(source: Source) -> Picture:
    """Draw how close policies come to the best fixed drafter when there are more drafters."""
    rows = range(len(source.at("report", "pool_size", "rows")))
    sizes = [source.number("report", "pool_size", "rows", row, "drafters") for row in rows]
    names = [name for name in source.at("report", "pool_size", "rows", 0) if name != "drafters"]
    curves = {name: [source.number("report", "pool_size", "rows", row, name) for row in rows] for name in names}
    shown = {"NormalHedge": "normalhedge", "tuned UCB": "tuned ucb"}
    shares = [f"{label} keeps {curves[name][-1]:.0%}" for label, name in shown.items() if name in curves]
    return Picture(
        "pool_size",
        titled(f"Best fixed drafter of {sizes[-1]:g}", shares, " and the policies") + (" of it" if shares else ""),
        {"unit": "passes of the best fixed drafter / passes of the policy", "drafters": sizes, "curves": curves},
        lambda figure: _draw_pool_size(figure, sizes, curves),
    )


def _draw_pool_size(figure: Any, sizes: Sequence[float], curves: Mapping[str, Sequence[float]]) -> None:
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


def weights(source: Source) -> Picture:
    """Draw the learners' weights along an answer that changes domain twice."""
    curves: dict[str, dict[str, list[float]]] = {}
    for name in source.at("report", "weights", "figure"):
        learner, _, drafter = name.partition(" ")
        curves.setdefault(learner, {})[drafter] = source.numbers("report", "weights", "figure", name)
    parts = source.rows("weights", ("domain", "start", "end", "best drafter"))
    return Picture(
        "weights",
        "Weights of the drafters while an answer changes domain twice",
        {
            "unit": "weight by number of scored tokens",
            "notes": source.at("report", "weights", "notes"),
            "parts": parts,
            "learners": curves,
        },
        lambda figure: _draw_weights(figure, curves, parts),
        height_inches=6.6,
    )


def _draw_weights(figure: Any, curves: Curves, parts: Sequence[Row]) -> None:
    panels = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (learner, by_drafter) in zip(panels, curves.items(), strict=True):
        for index, (drafter, weights) in enumerate(by_drafter.items()):
            axes.plot(range(len(weights)), weights, color=drafter_colour(index), label=drafter)
        for part in parts:
            if part["start"]:
                axes.axvline(part["start"], color="#888888", lw=1.2, ls="--")
        axes.set_ylim(0.0, 1.03)
        axes.set_xlim(0, parts[-1]["end"])
        axes.set_ylabel("weight")
        axes.set_title(look(learner).label, loc="left", pad=26)
        for part in parts:
            middle = (part["start"] + part["end"]) / 2
            text = f"{part['domain']}: best is {part['best drafter']}"
            axes.text(middle, 1.02, text, transform=axes.get_xaxis_transform(), ha="center", va="bottom", fontsize=11.5)
    panels[-1].set_xlabel("tokens scored (one spliced answer, parts picked for a clear best drafter)")
    legend_below(figure, panels[0], max(map(len, curves.values())))


def shifts(source: Source) -> Picture:
    """Draw excess passes on answers that change domain half-way, by learner and objective."""
    rows = source.rows("shifts", ("learner", "objective", "excess", "low", "high"))
    costs = {row["learner"]: row["excess"] for row in rows if row["objective"] == "rounds"}
    shown = [f"{costs[name]:.1f} ({name})" for name in ("normalhedge", "adaptive") if name in costs]
    return Picture(
        "shifts",
        titled("Passes lost on a change of domain", shown, ", by learner"),
        {"unit": "passes above the best pair of drafters in hindsight, with 95 % intervals", "rows": rows},
        lambda figure: _draw_shifts(figure, rows),
        height_inches=2.2 + 0.42 * len({row["learner"] for row in rows}),
    )


def _draw_shifts(figure: Any, rows: Sequence[Row]) -> None:
    axes = figure.subplots()
    smallest: dict[str, float] = {}
    for row in rows:
        smallest[row["learner"]] = min(row["excess"], smallest.get(row["learner"], math.inf))
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


OF_STUDIES: dict[str, Callable[[Source], Picture]] = {
    "policies": regret,
    "pool_size": pool_size,
    "weights": weights,
    "shifts": shifts,
}
