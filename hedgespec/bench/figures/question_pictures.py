"""The pictures of reports on the questions of a file: every policy by category, and the weights along one answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hedgespec.bench.figures.looks import drafter_colour, look
from hedgespec.bench.figures.picture import Picture, legend_below, titled
from hedgespec.bench.figures.source import Source
from hedgespec.bench.questions.report import ALL

ROW_INCHES = 0.36

Cells = Mapping[str, Mapping[str, Mapping[str, float]]]
"""category -> arm -> mean accepted tokens, share of the best fixed drafter"""


def questions(source: Source) -> Picture:
    """Draw a heat map of every policy in every category, from `bench policies --prompts` or `simulate questions`."""
    measured = source.at("report", "sections")
    data = {t: {category: _cells(source, t, category) for category in measured[t]} for t in measured}
    learned = str(source.at("report", "learned"))
    shares = [
        f"{by_category[ALL][learned]['share']:.0%}" for by_category in data.values() if learned in by_category[ALL]
    ]
    title = titled(
        f"{look(learned).label} as good as each answer's best drafter", [" and ".join(shares)] if shares else []
    )
    num_arms = len(next(iter(next(iter(data.values())).values())))
    return Picture(
        "questions",
        title,
        {
            "unit": "emitted tokens per target pass; share of the best fixed drafter of each answer",
            "temperatures": data,
        },
        lambda figure: _draw_questions(figure, data),
        height_inches=len(data) * (ROW_INCHES * num_arms + 1.9) + 0.5,
    )


def _cells(source: Source, temperature: str, category: str) -> dict[str, dict[str, float]]:
    where = ("report", "sections", temperature, category, "cells")
    return {
        arm: {
            "tokens": source.number(*where, arm, "mean_accepted_tokens", "value"),
            "share": source.number(*where, arm, "share_of_best_fixed", "value"),
        }
        for arm in source.at(*where)
    }


def _draw_questions(figure: Any, data: Mapping[str, Cells]) -> None:
    panels = figure.subplots(len(data), 1, squeeze=False)[:, 0]
    for axes, (temperature, by_category) in zip(panels, data.items(), strict=True):
        categories, arms = list(by_category), list(next(iter(by_category.values())))
        shares = [[by_category[category][arm]["share"] for category in categories] for arm in arms]
        image = axes.imshow(shares, cmap="YlGnBu", vmin=0.3, vmax=1.0, aspect="auto")
        for row, arm in enumerate(arms):
            for column, category in enumerate(categories):
                cell = by_category[category][arm]
                colour = "white" if cell["share"] > 0.62 else "#222222"
                weight = "bold" if cell["share"] >= max(s[column] for s in shares) - 5e-4 else "normal"
                text = f"{cell['tokens']:.2f}"
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9.5, fontweight=weight)
        axes.axvline(len(categories) - 1.5, color="#444444", lw=1.6)
        axes.set_xticks(range(len(categories)), categories, rotation=35, ha="right", fontsize=10)
        axes.set_yticks(range(len(arms)), [look(arm).label for arm in arms], fontsize=10.5)
        axes.tick_params(length=0)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.set_title(f"temperature {temperature}: tokens per target pass", loc="left")
        figure.colorbar(image, ax=axes, pad=0.01, label="share of each answer's best drafter")


def question_weights(source: Source) -> Picture:
    """Draw the default learner's weights along one recorded answer, from `simulate questions`."""
    trace = source.at("report", "weights")
    positions = source.numbers("report", "weights", "positions")
    curves = {name: source.numbers("report", "weights", "weights", name) for name in trace["weights"]}
    end = source.number("report", "weights", "num_tokens")
    where = f"{trace['category']}, turn {int(trace['turn']) + 1}, temperature {trace['temperature']:g}"
    label = "output index (tokens)" + ("; picked for a clear change of the best drafter" if trace["picked"] else "")
    return Picture(
        "question_weights",
        f"Weights of the drafters along one answer: {where}",
        {"unit": "weight at the start of a round, by output index", "positions": positions, "weights": curves},
        lambda figure: _draw_weights(figure, positions, curves, end, label),
        height_inches=4.6,
    )


def _draw_weights(
    figure: Any, positions: Sequence[float], curves: Mapping[str, Sequence[float]], num_tokens: float, label: str
) -> None:
    axes = figure.subplots()
    for index, (drafter, weights) in enumerate(curves.items()):
        axes.plot(positions, weights, color=drafter_colour(index), label=drafter, drawstyle="steps-post")
    axes.set_ylim(0.0, 1.03)
    axes.set_xlim(0, num_tokens)
    axes.set_ylabel("weight")
    axes.set_xlabel(label)
    legend_below(figure, axes, min(len(curves), 8))
