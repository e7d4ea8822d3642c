"""Compute a learner's losses and weights along recorded answers, with the code that also serves: `hedgespec.learning`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hedgespec.bench.simulation.recording import Floats, Ints, Recording
from hedgespec.learning.feedback import Feedback
from hedgespec.learning.learners.learner import Learner
from hedgespec.learning.objectives.objective import Losses
from hedgespec.types import Scores

NEVER = 1 << 30
"""The score timeout in rounds: every drafter of a recording answers, so no position closes without one."""


@dataclass(frozen=True, slots=True)
class AnswerLosses:
    """The loss vectors of one answer, in order.

    num_complete: [num_tokens + 1], how many of them are complete when that many tokens are scored
    """

    vectors: Losses
    num_complete: Ints


def answer_losses(recording: Recording, new_feedback: Callable[[], Feedback]) -> list[AnswerLosses]:
    """Compute the loss vectors of every answer.

    new_feedback: makes the feedback of one answer, for the recording's drafters and depth. How many vectors are complete
    after a position does not depend on the scores, so it is counted on the first answer alone, position by position.
    """
    if recording.num_answers == 0:
        return []
    stepwise, num_complete = new_feedback(), [0]
    for position in range(recording.num_tokens):
        num_complete.append(num_complete[-1] + len(_close(stepwise, recording, 0, position, position + 1)))
    answers = [_close(new_feedback(), recording, a, 0, recording.num_tokens) for a in range(recording.num_answers)]
    return [AnswerLosses(vectors, np.array(num_complete)) for vectors in answers]


def weights_by_position(losses: Sequence[AnswerLosses], learner: Learner[Any], priors: Floats) -> Floats:
    """Return the weights after each number of scored tokens, [num_answers, num_tokens + 1, num_experts].

    priors: [num_answers, num_experts], each row sums to 1
    """
    return np.stack([_weights(own, learner, prior) for own, prior in zip(losses, priors, strict=True)])


def _weights(losses: AnswerLosses, learner: Learner[Any], prior: Floats) -> Floats:
    state = learner.init(prior)
    after = [learner.weights(state)]
    for vector, awake in losses.vectors:
        state = learner.update(state, vector, awake)
        after.append(learner.weights(state))
    by_position: Floats = np.stack(after)[losses.num_complete]
    return by_position


def _close(feedback: Feedback, recording: Recording, answer: int, start: int, end: int) -> Losses:
    feedback.verified(end - start, 0)
    for drafter in range(recording.num_drafters):
        acceptance = recording.acceptance[answer, drafter, start:end]
        acceptance_prob = recording.acceptance_prob[answer, drafter, start:end]
        feedback.push(drafter, Scores(start, acceptance, acceptance_prob))
    return feedback.closed_losses(0)
