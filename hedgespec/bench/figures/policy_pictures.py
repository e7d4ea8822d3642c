"""The pictures of reports of `hedgespec bench policies`: accepted tokens, and misleading prompts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from hedgespec.bench.figures.looks import MAIN, canonical, in_order, look
from hedgespec.bench.figures.picture import Picture, legend_below, marker_legend_below, titled
from hedgespec.bench.figures.source import Source
from hedgespec.bench.policies import ALL

WIDTH = 0.8
"""The width of a domain's points together; domains are 1 apart."""

USUAL, REWRITTEN = "usual prompts", "rewritten prompts"
LEFT_OUT = ("plain", "random")

Points = Mapping[str, Mapping[str, Mapping[str, float]]]
"""policy -> usual or rewritten -> value, low, high"""


def accepted_tokens(source: Source) -> Picture:
    """Draw mean accepted tokens by domain and policy, one panel per temperature, from a report of `bench policies`."""
    measured = source.at("report", "temperatures")
    data = {t: {domain: row(source, t, domain) for domain in measured[t]} for t in usual_temperatures(measured)}
    return Picture(
        "accepted_tokens",
        "Mean accepted tokens of every policy, by domain",
        {"unit": "emitted tokens per target pass, with 95 % intervals", "temperatures": data},
        lambda figure: _draw_accepted_tokens(figure, data),
        height_inches=4.3 * len(data) + 0.8,
    )


def usual_temperatures(measured: Collection[str]) -> list[str]:
    """Return temperatures 0 and 1 where they are measured, else all."""
    return [t for t in ("0", "1") if t in measured] or list(measured)


def row(source: Source, temperature: str, domain: str) -> dict[str, dict[str, float]]:
    """Return the mean accepted tokens of every policy with their interval."""
    where = ("report", "temperatures", temperature, domain)
    return {
        policy: {key: source.number(*where, policy, "mean_accepted_tokens", key) for key in ("value", "low", "high")}
        for policy in source.at(*where)
    }


def _draw_accepted_tokens(figure: Any, data: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]) -> None:
    panels = figure.subplots(len(data), 1, squeeze=False)[:, 0]
    for axes, (temperature, by_domain) in zip(panels, data.items(), strict=True):
        domains = list(by_domain)
        policies = in_order(list(next(iter(by_domain.values()))))
        for index, policy in enumerate(policies):
            shown = look(policy)
            shift = WIDTH * ((index + 0.5) / len(policies) - 0.5)
            for column, domain in enumerate(domains):
                if policy not in by_domain[domain]:
                    continue
                point = by_domain[domain][policy]
                label = shown.label if column == 0 else None
                axes.plot(column + shift, point["value"], shown.marker, color=shown.colour, ms=8, mew=2, label=label)
                if domain == ALL:
                    axes.vlines(column + shift, point["low"], point["high"], color=shown.colour, lw=1.8)
        for border in range(1, len(domains)):
            axes.axvline(border - 0.5, color="#CCCCCC", lw=1.6 if domains[border] == ALL else 0.8)
        axes.set_xticks(range(len(domains)), domains)
        axes.tick_params(axis="x", length=0)
        axes.grid(False, axis="x")
        axes.set_xlim(-0.5, len(domains) - 0.5)
        axes.set_ylabel("tokens per target pass")
        axes.set_title(f"temperature {temperature}; bars on all domains: 95 % intervals", loc="left")
    legend_below(figure, panels[0], 4)


def rewrite(usual: Source, rewritten: Source) -> Picture:
    """Draw what misleading prompts do to a prompt classifier and to learners, from reports without and with `--rewrite`."""
    in_both = [t for t in usual.at("report", "temperatures") if rewritten.has("report", "temperatures", t)]
    data: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for temperature in usual_temperatures(in_both):
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
        _rewrite_title(data),
        {
            "unit": "emitted tokens per target pass on all domains, with 95 % intervals",
            "router_accuracy": accuracy,
            "temperatures": data,
        },
        lambda figure: _draw_rewrite(figure, data, accuracy),
    )


def _rewrite_title(data: Mapping[str, Points]) -> str:
    """Return the title, with the mean change of two policies over the temperatures."""
    changes = []
    for policy, label in (("prompt router", "prompt router"), ("adaptive rounds", "adaptive")):
        pairs = [points[policy] for points in data.values() if policy in points]
        if pairs:
            change = sum(pair[REWRITTEN]["value"] / pair[USUAL]["value"] - 1.0 for pair in pairs) / len(pairs)
            changes.append(f"{label} {change:+.0%}")
    return titled("A misleading document before each prompt", changes)


def _draw_rewrite(figure: Any, data: Mapping[str, Points], accuracy: Mapping[str, float]) -> None:
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
