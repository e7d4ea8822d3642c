"""Picture (d): the learners' weights along an answer that changes domain twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hedgespec.bench.figures.looks import drafter_colour, look
from hedgespec.bench.figures.picture import Picture, legend_below
from hedgespec.bench.figures.source import Source

STUDY = "weights"

Curves = Mapping[str, Mapping[str, Sequence[float]]]
"""learner -> drafter -> weight by number of scored tokens"""

Part = Mapping[str, Any]


def picture(source: Source) -> Picture:
    """Make the picture from the study `weights`."""
    curves: dict[str, dict[str, list[float]]] = {}
    for name in source.at("report", STUDY, "figure"):
        learner, _, drafter = name.partition(" ")
        curves.setdefault(learner, {})[drafter] = source.numbers("report", STUDY, "figure", name)
    parts = source.rows(STUDY, ("domain", "start", "end", "best drafter"))
    return Picture(
        "weights",
        "Weights of the drafters while an answer changes domain twice",
        {
            "unit": "weight by number of scored tokens",
            "notes": source.at("report", STUDY, "notes"),
            "parts": parts,
            "learners": curves,
        },
        lambda figure: _draw(figure, curves, parts),
        height_inches=6.6,
    )


def _draw(figure: Any, curves: Curves, parts: Sequence[Part]) -> None:
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
