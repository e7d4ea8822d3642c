"""Picture (a): mean accepted tokens by domain and policy, one panel per temperature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hedgespec.bench.figures.looks import in_order, look
from hedgespec.bench.figures.picture import Picture, legend_below
from hedgespec.bench.figures.source import Source
from hedgespec.bench.policies import ALL

WIDTH = 0.8
"""The width of a domain's points together; domains are 1 apart."""


def picture(source: Source) -> Picture:
    """Make the picture from a report of `bench policies`: temperatures 0 and 1 if measured, else all."""
    measured = source.at("report", "temperatures")
    chosen = [t for t in ("0", "1") if t in measured] or list(measured)
    data = {t: {domain: row(source, t, domain) for domain in measured[t]} for t in chosen}
    return Picture(
        "accepted_tokens",
        "Mean accepted tokens of every policy, by domain",
        {"unit": "emitted tokens per target pass, with 95 % intervals", "temperatures": data},
        lambda figure: _draw(figure, data),
        height_inches=4.3 * len(chosen) + 0.8,
    )


def row(source: Source, temperature: str, domain: str) -> dict[str, dict[str, float]]:
    """Return the mean accepted tokens of every policy with their interval."""
    where = ("report", "temperatures", temperature, domain)
    return {
        policy: {key: source.number(*where, policy, "mean_accepted_tokens", key) for key in ("value", "low", "high")}
        for policy in source.at(*where)
    }


def _draw(figure: Any, data: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]) -> None:
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
