"""Throughput study: seconds instead of passes; drafter, draft length and no speculation are chosen at given draft costs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hedgespec.bench.simulation.learned_weights import NEVER, answer_losses, weights_by_position
from hedgespec.bench.simulation.policies import FixedPolicy, WeightsPolicy
from hedgespec.bench.simulation.pools import with_experts
from hedgespec.bench.simulation.studies.study import Study
from hedgespec.bench.simulation.workbench import SHIPPED, Workbench
from hedgespec.learning.build import make_learner
from hedgespec.learning.experts import per_expert
from hedgespec.learning.feedback import make_feedback
from hedgespec.learning.objectives.throughput import experts_by_length

DRAFT_COSTS = (0.04, 0.15)
"""The costs of one draft token, in target passes."""

LENGTHS = (1, 2, 3, 5)


def study(bench: Workbench) -> Study:
    """Compare objective `throughput` with full-length drafts and with the best fixed choices."""
    rows = []
    for cost in DRAFT_COSTS:
        seconds, best, own = experts_at(bench, cost)
        learned = _learned_seconds(bench, own, seconds)
        longest = WeightsPolicy(bench.weights("normalhedge"), SHIPPED)
        full_length = 1.0 + cost * bench.recording.max_draft_tokens
        alone = own.per_answer(own.run(FixedPolicy(own.domain_best(seconds)), seconds).seconds)
        cases = {
            "throughput": learned,
            "rounds, longest drafts": bench.passes(longest) * full_length,
            "best expert of the domain": alone,
            "no speculation": np.full(len(best), float(bench.recording.num_tokens)),
        }
        for name, used in cases.items():
            rows.append(own.summary(used, best).row(draft_cost=cost, policy=name))
    return Study(
        "throughput",
        "Seconds of the best fixed (drafter, draft length), or of no speculation, in hindsight / seconds of the policy, "
        "where a pass takes 1 and every draft token draft_cost. NormalHedge, uniform start, shipped schedule.",
        rows,
    )


def experts_at(bench: Workbench, cost: float) -> tuple[NDArray[np.float64], NDArray[np.float64], Workbench]:
    """Return seconds of a round [num_experts], seconds of the best fixed expert [num_answers], and the experts' bench."""
    experts = experts_by_length(bench.recording.num_drafters, LENGTHS, bench.recording.max_draft_tokens)
    seconds = np.array([1.0 + cost * expert.num_draft_tokens for expert in experts])
    own = Workbench(with_experts(bench.recording, experts), bench.runs_each, bench.seed)
    return seconds, (own.fixed * seconds).min(axis=1), own


def _learned_seconds(bench: Workbench, own: Workbench, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    recording = bench.recording
    num_drafters, depth = recording.num_drafters, recording.max_draft_tokens
    experts = experts_by_length(num_drafters, LENGTHS, depth)
    losses = answer_losses(
        recording,
        lambda: make_feedback(
            "throughput", num_drafters, depth, NEVER, draft_lengths=LENGTHS, seconds=lambda experts: seconds
        ),
    )
    priors = np.tile(per_expert(experts, bench.uniform[0]), (recording.num_answers, 1))
    weights = weights_by_position(losses, make_learner("normalhedge"), priors)
    return own.per_answer(own.run(WeightsPolicy(weights, SHIPPED), seconds).seconds)
