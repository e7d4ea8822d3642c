"""The goals that the learner must reach, compared with what the studies of a recording measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hedgespec.bench.simulation.studies.study import Study
from hedgespec.config import LearnerConfig, SpeculationConfig

NEEDED = ("policies", "pool_size", "shifts", "priors", "prompt", "throughput", "score_depth")
"""The studies that the goals are read from."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One measured value and its limit.

    measured: None where the recording does not have it. at_least: False when smaller is better.
    """

    name: str
    limit: float
    measured: float | None
    at_least: bool = True

    @property
    def verdict(self) -> str:
        """PASS, MISS, or UNKNOWN without a measured value."""
        if self.measured is None:
            return "UNKNOWN"
        is_met = self.measured >= self.limit if self.at_least else self.measured <= self.limit
        return "PASS" if is_met else "MISS"


def goals(studies: Mapping[str, Study]) -> list[Goal]:
    """Return all goals. studies: by name, at least those of NEEDED."""
    return [
        *_policies(studies["policies"]),
        *_configured(studies["score_depth"]),
        *_priors(studies["priors"], studies["prompt"]),
        *_pool_size(studies["pool_size"]),
        *_shifts(studies["shifts"]),
        *_throughput(studies["throughput"]),
    ]


def _policies(study: Study) -> Iterator[Goal]:
    own = study.value("mean", policy="normalhedge", objective="rounds")
    lowest = study.value("lowest domain", policy="normalhedge", objective="rounds")
    yield Goal("normalhedge, rounds, uniform start: mean ratio", 0.97, own)
    yield Goal("the same in the lowest domain", 0.94, lowest)
    for rival, factor in (("ucbspec", 1.25), ("exp3spec", 1.25), ("tuned ucb", 1.05)):
        yield Goal(f"ratio to {rival}", factor, own / study.value("mean", policy=rival))


def _configured(study: Study) -> Iterator[Goal]:
    """The configured score_depth; all other goals are measured with exact scores."""
    depth = SpeculationConfig().score_depth
    where = {"learner": "normalhedge", "objective": "rounds", "score_depth": depth}
    yield Goal(f"mean ratio with the configured score_depth, {depth}", 0.97, study.value("mean", **where))
    yield Goal("the same in the lowest domain", 0.94, study.value("lowest domain", **where))


def _priors(priors: Study, prompt: Study) -> Iterator[Goal]:
    """Goals for NormalHedge, as in the paper, and for the default learner."""
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
        yield Goal(f"{learner}, single-domain preference: mean ratio", 0.99, means["single domain"])
        yield Goal(f"{learner}, scores of the prompt: mean ratio", 0.99, max(prompted, default=None))
        yield Goal(f"{learner}, two-domain preference: mean ratio", 0.98, means["two domains"])
        lost = 100 * (means["uniform"] - means["wrong domain"])
        yield Goal(f"{learner}: points lost to a wrong preference", 1.0, lost, False)


def _pool_size(study: Study) -> Iterator[Goal]:
    small, large = (study.value("normalhedge", drafters=size) for size in (4, 32))
    yield Goal("ratio to tuned ucb with 32 drafters", 1.2, large / study.value("tuned ucb", drafters=32))
    yield Goal("points lost from 4 to 32 drafters", 4.0, 100 * (small - large), False)


def _shifts(study: Study) -> Iterator[Goal]:
    def value(column: str, learner: str, objective: str = "rounds") -> float:
        return float(study.value(column, learner=learner, objective=objective))

    excess = value("excess", "normalhedge")
    yield Goal("adaptive / normalhedge, excess on mixed answers", 1 / 3, value("excess", "adaptive") / excess, False)
    lost = 100 * (value("stationary", "normalhedge") - value("stationary", "adaptive"))
    yield Goal("points that adaptive loses on unmixed answers", 1.0, lost, False)
    for column, name in (("excess", "best pair"), ("over fixed", "best fixed drafter")):
        ratio = value(column, "normalhedge") / value(column, "normalhedge", "length")
        yield Goal(f"rounds / length, excess over the {name} on mixed answers", 2 / 3, ratio, False)


def _throughput(study: Study) -> Iterator[Goal]:
    for row in study.rows:
        if row["policy"] == "throughput":
            yield Goal(f"throughput at draft cost {row['draft_cost']}: mean ratio", 0.95, row["mean"])
