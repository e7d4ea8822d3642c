"""What the learner is held to, against what a recording measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hedgespec.bench.simulation.studies.study import Study
from hedgespec.config import LearnerConfig, SpeculationConfig

NEEDED = ("policies", "pool_size", "shifts", "priors", "prompt", "throughput", "score_depth")
"""Studies that the targets are read from."""


@dataclass(frozen=True, slots=True)
class Target:
    """measured: None where the recording cannot tell. at_least: False when smaller is better."""

    name: str
    limit: float
    measured: float | None
    at_least: bool = True

    @property
    def verdict(self) -> str:
        if self.measured is None:
            return "UNKNOWN"
        is_met = self.measured >= self.limit if self.at_least else self.measured <= self.limit
        return "PASS" if is_met else "MISS"


def targets(studies: Mapping[str, Study]) -> list[Target]:
    """studies: by name, at least those of NEEDED."""
    return [
        *_policies(studies["policies"]),
        *_configured(studies["score_depth"]),
        *_priors(studies["priors"], studies["prompt"]),
        *_pool_size(studies["pool_size"]),
        *_shifts(studies["shifts"]),
        *_throughput(studies["throughput"]),
    ]


def _policies(study: Study) -> Iterator[Target]:
    own = study.value("mean", policy="normalhedge", objective="rounds")
    lowest = study.value("lowest domain", policy="normalhedge", objective="rounds")
    yield Target("normalhedge, rounds, uniform start: mean ratio", 0.97, own)
    yield Target("the same in the lowest domain", 0.94, lowest)
    for rival, factor in (("ucbspec", 1.25), ("exp3spec", 1.25), ("tuned ucb", 1.05)):
        yield Target(f"times {rival}", factor, own / study.value("mean", policy=rival))


def _configured(study: Study) -> Iterator[Target]:
    """All other numbers are those of exact scores."""
    depth = SpeculationConfig().score_depth
    where = {"learner": "normalhedge", "objective": "rounds", "score_depth": depth}
    yield Target(f"mean ratio with the configured score_depth, {depth}", 0.97, study.value("mean", **where))
    yield Target("the same in the lowest domain", 0.94, study.value("lowest domain", **where))


def _priors(priors: Study, prompt: Study) -> Iterator[Target]:
    """Of NormalHedge, as in the paper, and of the default learner."""
    for learner in ("normalhedge", LearnerConfig().name):
        means = {
            row["preference"]: float(row["mean"])
            for row in priors.rows
            if (row["learner"], row["follow"]) == (learner, "sample")
        }
        prompted = [
            float(row["mean"])
            for row in prompt.rows
            if (row["learner"], row["prior"]) == (learner, "uniform") and row["prompt_tokens"] > 0
        ]
        yield Target(f"{learner}, single-domain preference: mean ratio", 0.99, means["single domain"])
        yield Target(f"{learner}, scores of the prompt: mean ratio", 0.99, max(prompted, default=None))
        yield Target(f"{learner}, two-domain preference: mean ratio", 0.98, means["two domains"])
        lost = 100 * (means["uniform"] - means["wrong domain"])
        yield Target(f"{learner}: points lost to a wrong preference", 1.0, lost, False)


def _pool_size(study: Study) -> Iterator[Target]:
    small, large = (study.value("normalhedge", drafters=size) for size in (4, 32))
    yield Target("times tuned ucb with 32 drafters", 1.2, large / study.value("tuned ucb", drafters=32))
    yield Target("points lost from 4 to 32 drafters", 4.0, 100 * (small - large), False)


def _shifts(study: Study) -> Iterator[Target]:
    def value(column: str, learner: str, objective: str = "rounds") -> float:
        return float(study.value(column, learner=learner, objective=objective))

    excess = value("excess", "normalhedge")
    yield Target("adaptive / normalhedge, excess on mixed answers", 1 / 3, value("excess", "adaptive") / excess, False)
    lost = 100 * (value("stationary", "normalhedge") - value("stationary", "adaptive"))
    yield Target("points that adaptive loses on unmixed answers", 1.0, lost, False)
    for column, name in (("excess", "best pair"), ("over fixed", "best fixed drafter")):
        ratio = value(column, "normalhedge") / value(column, "normalhedge", "length")
        yield Target(f"rounds / length, excess over the {name} on mixed answers", 2 / 3, ratio, False)


def _throughput(study: Study) -> Iterator[Target]:
    for row in study.rows:
        if row["policy"] == "throughput":
            yield Target(f"throughput at draft cost {row['draft_cost']}: mean ratio", 0.95, row["mean"])
