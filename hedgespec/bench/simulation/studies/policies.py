"""Policy studies: how close policies come to the best fixed drafter, with how many drafters, and when learners lose."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hedgespec.bench.simulation.bandits import Exp3SpecPolicy, UcbPolicy, UcbSpecPolicy
from hedgespec.bench.simulation.hindsight import best_per_round_passes, round_starts
from hedgespec.bench.simulation.policies import FixedPolicy, RandomPolicy, WeightsPolicy
from hedgespec.bench.simulation.pools import larger_pool, smaller_pool
from hedgespec.bench.simulation.recording import Recording
from hedgespec.bench.simulation.replay import Policy, Replayed
from hedgespec.bench.simulation.studies.study import Row, Study
from hedgespec.bench.simulation.workbench import SHIPPED, Workbench
from hedgespec.catalogue import LEARNERS

GENERIC = "generic"

WIDTHS = (0.0, 0.25, 0.5, 1.0, 2.0)
DISCOUNTS = (0.9, 0.95, 0.98)
OBJECTIVES: tuple[str, ...] = ("rounds", "length", "length_product", "acceptance")
FIRST = (8, 16, 32, 64, 128)
EARLY = 32
SIZES, RUNS_PER_SIZE = (2, 4, 8, 16, 32, 64), 8
MIN_EXCESS = 0.5
"""Excess passes per answer below which a share is only noise."""


def study(bench: Workbench) -> Study:
    """Compare fixed drafters, bandits and learners."""
    num_tokens = bench.recording.num_tokens
    rows = [bench.summary(np.full(len(bench.best), float(num_tokens))).row(policy="plain", objective="")]
    curves: dict[str, list[float]] = {}
    for name, objective, policy in _cases(bench):
        replayed = bench.run(policy)
        rows.append(bench.summary(bench.per_answer(replayed.passes)).row(policy=name, objective=objective))
        curves[f"{name} {objective}".strip()] = regret_curve(bench, replayed)
    rows += [tuned_ucb(bench), tuned_ucb(bench, DISCOUNTS)]
    oracle = best_per_round_passes(bench.recording.acceptance)
    rows.append(bench.summary(oracle).row(policy="best choice of every round in hindsight", objective=""))
    return Study(
        "policies",
        "Passes of the best fixed drafter in hindsight / passes of the policy; mean over domains and temperatures. "
        "Learners start uniform, with the shipped scoring schedule; bandits start with a round of each drafter (UCB) and "
        "the constants of the tuned ones were chosen on these answers, in their favour. The figure shows passes above the "
        "best fixed drafter's, by output index.",
        rows,
        curves,
    )


def early_study(bench: Workbench) -> Study:
    """Compare when the learners lose passes."""
    rows: list[Row] = []
    for name in LEARNERS.names():
        curve = regret_curve(bench, bench.run(WeightsPolicy(bench.weights(name), SHIPPED)))
        excess = {f"after {n}": curve[min(n, len(curve)) - 1] for n in FIRST}
        share = round(excess[f"after {EARLY}"] / curve[-1], 3) if curve[-1] >= MIN_EXCESS else None
        rows.append({"learner": name, **excess, "at the end": curve[-1], f"share of the first {EARLY}": share})
    return Study(
        "early",
        "Passes above those of the answer's best fixed drafter after N tokens, mean over answers. "
        "Objective rounds, uniform start, shipped schedule.",
        rows,
    )


def pool_size_study(bench: Workbench) -> Study:
    """Compare NormalHedge and bandits over pools of every size."""
    rows = []
    for size in SIZES:
        own = Workbench(pool(bench.recording, size, bench.seed), RUNS_PER_SIZE, bench.seed)
        depth = own.recording.max_draft_tokens
        means = {
            "normalhedge": own.summary(own.learned_passes("normalhedge")).mean,
            "tuned ucb": float(str(tuned_ucb(own)["mean"])),
            "ucbspec": own.summary(own.passes(UcbSpecPolicy(size, depth))).mean,
            "exp3spec": own.summary(own.passes(Exp3SpecPolicy(size, depth))).mean,
        }
        rows.append({"drafters": size, **{name: round(mean, 4) for name, mean in means.items()}})
    return Study(
        "pool_size",
        "Mean ratio to the best fixed drafter of the pool. A pool smaller than the recorded one is drawn at random for each "
        "answer; a larger one adds perturbed mixtures of two recorded drafters. UCB is tuned for each size.",
        rows,
    )


def pool(recording: Recording, size: int, seed: int) -> Recording:
    """Return the recording with `size` drafters."""
    if size < recording.num_drafters:
        return smaller_pool(recording, size, seed)
    return larger_pool(recording, size, seed) if size > recording.num_drafters else recording


def tuned_ucb(bench: Workbench, discounts: tuple[float, ...] = (1.0,)) -> dict[str, object]:
    """Return the row of UCB with the constants that are best on these answers."""
    num_arms = bench.recording.num_drafters
    tried = [(bench.passes(UcbPolicy(num_arms, w, d)), w, d) for w in WIDTHS for d in discounts]
    passes, width, discount = min(tried, key=lambda case: float((case[0] / bench.best).mean()))
    name = "tuned ucb" if discounts == (1.0,) else "discounted ucb"
    return bench.summary(passes).row(policy=name, objective=f"width {width:g}, discount {discount:g}")


def regret_curve(bench: Workbench, replayed: Replayed) -> list[float]:
    """Return the mean number of rounds started up to each position, minus that of the answer's best fixed drafter."""
    started = (replayed.chosen >= 0).reshape(bench.recording.num_answers, bench.runs_each, -1).mean(axis=1)
    answers = np.arange(bench.recording.num_answers)
    fixed = round_starts(bench.recording.acceptance)[answers, bench.fixed.argmin(axis=1)]
    curve = np.cumsum(started - fixed, axis=1).mean(axis=0)
    return [round(float(value), 3) for value in curve]


def _cases(bench: Workbench) -> Iterator[tuple[str, str, Policy]]:
    recording = bench.recording
    num_arms, depth = recording.num_drafters, recording.max_draft_tokens
    yield "random", "", RandomPolicy(num_arms)
    names = recording.drafter_ids.tolist()
    if GENERIC in names:
        yield GENERIC, "", FixedPolicy(np.full(recording.num_answers, names.index(GENERIC)))
    yield "best drafter of the domain", "", FixedPolicy(bench.domain_best())
    yield "ucbspec", "", UcbSpecPolicy(num_arms, depth)
    yield "exp3spec", "", Exp3SpecPolicy(num_arms, depth)
    for objective in OBJECTIVES:
        weights = bench.weights("normalhedge", objective)
        yield "normalhedge", objective, WeightsPolicy(weights, SHIPPED)
    weights = bench.weights("normalhedge")
    yield "normalhedge, leader", "rounds", WeightsPolicy(weights, SHIPPED, "leader")
    for name in LEARNERS.names():
        if name != "normalhedge":
            yield name, "rounds", WeightsPolicy(bench.weights(name), SHIPPED)
