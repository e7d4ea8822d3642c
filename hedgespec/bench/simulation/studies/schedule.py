"""Studies of scores: the costs of scoring less often or only the first depth, of sleeping drafters and of late scores."""

from __future__ import annotations

from itertools import product

import numpy as np

from hedgespec.bench.simulation.policies import Schedule, WeightsPolicy
from hedgespec.bench.simulation.recording import Floats, Recording
from hedgespec.bench.simulation.studies.study import COMPARED, Row, Study
from hedgespec.bench.simulation.workbench import SHIPPED, Workbench
from hedgespec.learning.answer_learner import AnswerLearner
from hedgespec.learning.build import make_learner
from hedgespec.learning.feedback import make_feedback
from hedgespec.learning.scoring_plan import ScoringPlan, sweep
from hedgespec.learning.sleepers import Sleepers

EVERY = (1, 2, 4, 8, 16)
DENSE = (0, 4, 8, 16)
SLEEP = ((0.0, 0), (0.001, 16), (0.003, 16), (0.003, 24), (0.003, 48), (0.01, 24), (0.01, 48))
"""(weight below which a drafter falls asleep, rounds until it wakes); with 0 rounds no drafter sleeps"""
DELAYS = (0, 1, 4)
WAITS = (0, 4, 8)
OBJECTIVES = ("rounds", "length")


def study(bench: Workbench) -> Study:
    """Compare scoring schedules, then sleeping drafters."""
    rows = [_dense_row(bench, dense, every) for every in EVERY for dense in (DENSE if every > 1 else DENSE[:1])]
    rows += [_sleep_row(bench, weight, wake) for weight, wake in SLEEP]
    return Study(
        "schedule",
        "NormalHedge, objective rounds, uniform start, scores one round late after the first waited rounds. calls: requests "
        "for scores; scored: (drafter, token) pairs; both as shares of scoring every round. The last rows use the "
        "router's own learner, sleepers and plan.",
        rows,
    )


def delay_study(bench: Workbench) -> Study:
    """Compare delays of scores and numbers of rounds that wait."""
    weights = bench.weights("normalhedge")
    rows = []
    for delay in DELAYS:
        for wait in WAITS if delay else WAITS[:1]:
            passes = bench.passes(WeightsPolicy(weights, Schedule(delay_rounds=delay, wait_rounds=wait)))
            rows.append(bench.summary(passes).row(delay_rounds=delay, wait_rounds=wait))
    return Study(
        "delay",
        "NormalHedge, objective rounds, uniform start, scores of every round, delay_rounds late; the router waits for them "
        "in the first wait_rounds rounds.",
        rows,
    )


def score_depth_study(bench: Workbench) -> Study:
    """Compare the score depths `exact` and `depth1`."""
    scored = {"exact": bench, "depth1": Workbench(first_depth_everywhere(bench.recording), bench.runs_each, bench.seed)}
    rows = []
    for learner, objective, (depth, scores) in product(COMPARED, OBJECTIVES, scored.items()):
        summary = bench.summary(bench.passes(WeightsPolicy(scores.weights(learner, objective), SHIPPED)))
        rows.append(summary.row(learner=learner, objective=objective, score_depth=depth))
    return Study(
        "score_depth",
        "The learner sees exact scores or those of depth 1 at every depth; acceptance is the same. Uniform start, shipped "
        "schedule.",
        rows,
    )


def first_depth_everywhere(recording: Recording) -> Recording:
    """Replace the scores by those that drafters send with score_depth `depth1`."""
    columns = (
        np.repeat(rows[..., :1], recording.max_draft_tokens, axis=-1)
        for rows in (recording.acceptance, recording.acceptance_prob)
    )
    return recording.with_drafters(recording.drafter_ids, *columns)


def _dense_row(bench: Workbench, dense: int, every: int) -> Row:
    schedule = Schedule(dense, every, SHIPPED.delay_rounds, SHIPPED.wait_rounds)
    replayed = bench.run(WeightsPolicy(bench.weights("normalhedge"), schedule))
    # no scores are requested for the last round of an answer: nothing could be chosen with them
    due = np.cumsum([1 / sweep(r, dense, every)[1] for r in range(bench.recording.num_tokens)])
    calls = due[replayed.passes - 1].sum() / replayed.passes.sum()
    settings = {"dense_rounds": dense, "every": every, "sleep_weight": 0.0, "wake_rounds": 0}
    return _row(bench, bench.per_answer(replayed.passes), calls, 1.0, settings)


def _sleep_row(bench: Workbench, weight: float, wake: int) -> Row:
    recording = bench.recording
    num_drafters, depth = recording.num_drafters, recording.max_draft_tokens
    dense, every = SHIPPED.dense_rounds, SHIPPED.every

    def learning(answer: int) -> AnswerLearner:
        return AnswerLearner(
            make_learner("normalhedge"),
            bench.uniform[answer],
            make_feedback("rounds", num_drafters, depth, score_timeout_rounds=64),
            plan=ScoringPlan(num_drafters, dense, every, [0] * num_drafters),  # as SHIPPED
            sleepers=Sleepers(num_drafters, weight, wake, dense),
        )

    served = bench.served(learning)
    calls = served.num_calls.sum() / (served.passes.sum() * num_drafters)
    scored = served.num_scored.mean() / (num_drafters * recording.num_tokens)
    settings = {"dense_rounds": dense, "every": every, "sleep_weight": weight, "wake_rounds": wake}
    return _row(bench, served.passes, calls, scored, settings)


def _row(bench: Workbench, passes: Floats, calls: float, scored: float, settings: Row) -> Row:
    shares = {"calls": round(float(calls), 3), "scored": round(float(scored), 3)}
    return bench.summary(passes).row(**settings, **shares)
