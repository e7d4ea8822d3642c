"""Throughput study: seconds instead of passes; drafter, draft length and no speculation are chosen at given draft costs."""

from __future__ import annotations

from functools import partial

import numpy as np

from hedgespec.bench.simulation.learned_weights import NEVER, answer_losses, weights_by_position
from hedgespec.bench.simulation.policies import FixedPolicy, WeightsPolicy
from hedgespec.bench.simulation.pools import with_experts
from hedgespec.bench.simulation.recording import Floats
from hedgespec.bench.simulation.replay import Policy
from hedgespec.bench.simulation.studies.study import Study
from hedgespec.bench.simulation.workbench import SHIPPED, Workbench
from hedgespec.learning.build import make_learner
from hedgespec.learning.experts import per_expert
from hedgespec.learning.feedback import make_feedback
from hedgespec.learning.objectives.time import experts_by_length

DRAFT_COSTS = (0.04, 0.15)
"""The costs of one draft token, in target passes."""

LENGTHS = (1, 2, 3, 5)


def study(bench: Workbench) -> Study:
    """Compare objective `time` with full-length drafts and with the best fixed choices."""
    rows = []
    experts = experts_by_length(bench.recording.num_drafters, LENGTHS, bench.recording.max_draft_tokens)
    own = Workbench(with_experts(bench.recording, experts), bench.runs_each, bench.seed)
    priors = np.tile(per_expert(experts, bench.uniform[0]), (bench.recording.num_answers, 1))
    for cost in DRAFT_COSTS:
        seconds = np.array([1.0 + cost * expert.num_draft_tokens for expert in experts])
        best = (own.fixed * seconds).min(axis=1)
        full_length = 1.0 + cost * bench.recording.max_draft_tokens
        cases = {
            "throughput": _seconds(own, WeightsPolicy(_weights(bench, seconds, priors), SHIPPED), seconds),
            "rounds, longest drafts": bench.learned_passes("normalhedge") * full_length,
            "best expert of the domain": _seconds(own, FixedPolicy(own.domain_best(seconds)), seconds),
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


def _seconds(own: Workbench, policy: Policy, costs: Floats) -> Floats:
    """Return the mean seconds of a policy over the experts' workbench, [num_answers]."""
    return own.per_answer(own.run(policy, costs).seconds)


def _weights(bench: Workbench, seconds: Floats, priors: Floats) -> Floats:
    """Return the weights of NormalHedge over experts by position. seconds: of a round of each expert."""
    shape = bench.recording.num_drafters, bench.recording.max_draft_tokens
    new_feedback = partial(make_feedback, "time", *shape, NEVER, draft_lengths=LENGTHS, seconds=lambda experts: seconds)
    return weights_by_position(answer_losses(bench.recording, new_feedback), make_learner("normalhedge"), priors)
