"""Picture (e): the effect of misleading prompts on a classifier of prompts and on learners."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hedgespec.bench.figures.accepted_tokens import row
from hedgespec.bench.figures.looks import MAIN, canonical, in_order, look
from hedgespec.bench.figures.picture import Picture, marker_legend_below
from hedgespec.bench.figures.source import Source
from hedgespec.bench.policies import ALL

USUAL, REWRITTEN = "usual prompts", "rewritten prompts"
LEFT_OUT = ("plain", "random")

Points = Mapping[str, Mapping[str, Mapping[str, float]]]
"""policy -> usual or rewritten -> value, low, high"""


def picture(usual: Source, rewritten: Source) -> Picture:
    """Make the picture from reports of `bench policies`, without and with `--rewrite`."""
    temperatures = [t for t in usual.at("report", "temperatures") if rewritten.has("report", "temperatures", t)]
    chosen = [t for t in temperatures if t in ("0", "1")] or temperatures
    data: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for temperature in chosen:
        before, after = row(usual, temperature, ALL), row(rewritten, temperature, ALL)
        data[temperature] = {
            policy: {USUAL: before[policy], REWRITTEN: after[policy]}
            for policy in before
            if policy in after and canonical(policy) in MAIN and policy not in LEFT_OUT
        }
    accuracy = {
        name: source.number("settings", "router_accuracy")
        for name, source in ((USUAL, usual), (REWRITTEN, rewritten))
        if source.has("settings", "router_accuracy")
    }
    return Picture(
        "rewrite",
        _title(data),
        {
            "unit": "emitted tokens per target pass on all domains, with 95 % intervals",
            "router_accuracy": accuracy,
            "temperatures": data,
        },
        lambda figure: _draw(figure, data, accuracy),
    )


def _title(data: Mapping[str, Points]) -> str:
    """Return the title, with the mean change of two policies over the temperatures."""
    changes = []
    for policy, label in (("prompt router", "prompt router"), ("adaptive rounds", "adaptive")):
        pairs = [points[policy] for points in data.values() if policy in points]
        if pairs:
            change = sum(pair[REWRITTEN]["value"] / pair[USUAL]["value"] - 1.0 for pair in pairs) / len(pairs)
            changes.append(f"{label} {change:+.0%}")
    return "A misleading document before each prompt" + (f": {', '.join(changes)}" if changes else "")


def _draw(figure: Any, data: Mapping[str, Points], accuracy: Mapping[str, float]) -> None:
    panels = figure.subplots(1, max(len(data), 1), sharey=True, squeeze=False)[0]
    for axes, (temperature, points) in zip(panels, data.items(), strict=True):
        policies = in_order(list(points))[::-1]
        for height, policy in enumerate(policies):
            colour = look(policy).colour
            values = [points[policy][prompts]["value"] for prompts in (USUAL, REWRITTEN)]
            axes.plot(values, [height, height], color=colour, lw=3, alpha=0.35)
            for prompts, value, face, lift in zip(
                (USUAL, REWRITTEN), values, (colour, "white"), (0.1, -0.1), strict=True
            ):
                point = points[policy][prompts]
                axes.hlines(height + lift, point["low"], point["high"], color=colour, lw=1.3)
                axes.plot(value, height, "o", color=colour, mfc=face, ms=10, mew=2)
        axes.set_yticks(range(len(policies)), [look(policy).label for policy in policies])
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("tokens per target pass, all domains")
        axes.set_title(f"temperature {temperature}", loc="left")
    faces = {_label(USUAL, accuracy): "#444444", _label(REWRITTEN, accuracy): "white"}
    marker_legend_below(figure, panels[0], faces)


def _label(prompts: str, accuracy: Mapping[str, float]) -> str:
    return prompts + (f" (router right for {accuracy[prompts]:.0%})" if prompts in accuracy else "")
