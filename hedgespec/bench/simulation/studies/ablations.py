"""Ablation study: other ways to compute losses from the same scores: per round, censored, provisional, mixed, skipped."""

from __future__ import annotations

from collections.abc import Callable

from hedgespec.bench.simulation.ablation_losses import (
    CensoredLengthLosses,
    ChunkLosses,
    ForwardLengthLosses,
    HybridLosses,
    ProvisionalLengthLosses,
    SkippingLosses,
)
from hedgespec.bench.simulation.studies.study import Study
from hedgespec.bench.simulation.workbench import Workbench
from hedgespec.learning.answer_learner import AnswerLearner
from hedgespec.learning.build import make_learner
from hedgespec.learning.feedback import Feedback
from hedgespec.learning.objectives.length import Length
from hedgespec.learning.objectives.objective import Objective, Pool
from hedgespec.learning.objectives.rounds import Rounds

NewLosses = Callable[[Pool], Objective]
"""The drafters -> the losses of one answer."""

VARIANTS: dict[str, NewLosses] = {
    "rounds": Rounds,
    "rounds, one update per round": lambda pool: ChunkLosses(Rounds(pool)),
    "rounds, every 2nd update": lambda pool: SkippingLosses(Rounds(pool), 2),
    "rounds, every 4th update": lambda pool: SkippingLosses(Rounds(pool), 4),
    "length, waits": Length,
    "length, one update per round": lambda pool: ChunkLosses(Length(pool)),
    "length, censored": CensoredLengthLosses,
    "length, provisional": ProvisionalLengthLosses,
    "length by position": ForwardLengthLosses,
    "0.25 acceptance + 0.75 length": lambda pool: HybridLosses(pool, 0.25),
    "0.5 acceptance + 0.5 length": lambda pool: HybridLosses(pool, 0.5),
}


def study(bench: Workbench) -> Study:
    """Compare every variant of the losses."""
    rows = []
    for name, new_losses in VARIANTS.items():
        passes = bench.served(new_learning(bench, new_losses)).passes
        rows.append(bench.summary(passes).row(losses=name))
    return Study(
        "ablations",
        "NormalHedge, uniform start, scores of every round, one round late after the first waited rounds; "
        "replayed with the router's own learner.",
        rows,
    )


def new_learning(bench: Workbench, new_losses: NewLosses) -> Callable[[int], AnswerLearner]:
    """Return a function that makes the learner of an answer with these losses."""
    pool = Pool(bench.recording.num_drafters, bench.recording.max_draft_tokens)

    def make(answer: int) -> AnswerLearner:
        feedback = Feedback(new_losses(pool), score_timeout_rounds=64)
        return AnswerLearner(make_learner("normalhedge"), bench.uniform[answer], feedback)

    return make
