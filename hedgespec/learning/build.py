"""Build what one answer learns with, from the configuration and the tenant's preference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hedgespec.catalogue import OBJECTIVES, learner_registry
from hedgespec.config import AppArgs
from hedgespec.errors import ConfigError
from hedgespec.learning.answer_bandit import AnswerBandit
from hedgespec.learning.answer_learner import AnswerLearner
from hedgespec.learning.experts import Expert
from hedgespec.learning.feedback import make_feedback
from hedgespec.learning.learners.learner import Learner, LearnerSettings
from hedgespec.learning.prior import mixed_prior
from hedgespec.learning.protocol import AnswerLearning
from hedgespec.learning.scoring_plan import ScoringPlan
from hedgespec.learning.sleepers import Sleepers
from hedgespec.learning.step_times import AnswerTimes
from hedgespec.types import DraftForm, ScoreDepth

_DEFAULTS = LearnerSettings()


def make_learner(name: str, settings: LearnerSettings = _DEFAULTS) -> Learner[Any]:
    """The learner or bandit of that name. Raises ConfigError for an unknown one and for settings that it cannot use."""
    registry = learner_registry(name)
    make = registry.load(name)
    try:
        learner: Learner[Any] = make(settings)
    except TypeError as error:
        raise ConfigError(f"The {registry.kind} {name!r} is no factory `(settings) -> Learner`: {error}.") from error
    return learner


def make_answer_learning(
    preference: NDArray[np.float64],
    args: AppArgs,
    drafter_ids: Sequence[str],
    max_draft_tokens: int,
    step_times: AnswerTimes,
) -> AnswerLearning:
    """preference: [num_drafters], the tenant's; the learner starts from it, mixed with the uniform one.

    max_draft_tokens: what this request allows, at most the configured one. step_times: seconds of recent rounds
    """
    prior = mixed_prior(preference, args.learner.prior_mixing)
    if args.learner.is_bandit:
        most = args.speculation.max_draft_tokens
        return AnswerBandit(make_learner(args.learner.name, LearnerSettings(num_draft_tokens=most)), prior, most)
    speculation, num_drafters = args.speculation, len(drafter_ids)
    feedback = make_feedback(
        args.learner.objective,
        num_drafters,
        max_draft_tokens,
        speculation.score_timeout_rounds,
        draft_lengths=speculation.draft_lengths,
        seconds=step_times.seconds,
        draft_form=DraftForm(speculation.draft_form, speculation.branching),
    )
    baseline = 0 if args.learner.baseline is None else drafter_ids.index(args.learner.baseline)
    dense_rounds = speculation.score_dense_rounds
    groups = args.group_numbers(drafter_ids)
    return AnswerLearner(
        make_learner(args.learner.name, LearnerSettings(baseline_index=_longest(feedback.experts, baseline))),
        prior,
        feedback,
        plan=ScoringPlan(num_drafters, dense_rounds, speculation.score_every, groups),
        sleepers=Sleepers(num_drafters, speculation.sleep_weight, speculation.wake_every_rounds, dense_rounds),
        prior_mixing=args.learner.prior_mixing,
        prompt_rounds=speculation.warm_rounds if speculation.prompt_scores else 0,
    )


def score_depth(args: AppArgs) -> ScoreDepth:
    """How deep drafters score: only the starts of their own rounds where the objective reads no others."""
    speculation = args.speculation
    is_one_length = set(speculation.draft_lengths) <= {speculation.max_draft_tokens}
    is_enough = OBJECTIVES.load(args.learner.objective).own_rounds_suffice and speculation.draft_form == "chain"
    return (
        "own_rounds" if speculation.score_depth == "exact" and is_enough and is_one_length else speculation.score_depth
    )


def _longest(experts: Sequence[Expert], drafter_index: int) -> int:
    """The index of that drafter's expert with the longest drafts."""
    return max(index for index, expert in enumerate(experts) if expert.drafter_index == drafter_index)
