"""The learner's weights along an answer, made by the code that serves: `hedgespec.learning`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hedgespec.bench.simulation.recording import Recording
from hedgespec.learning.feedback import Feedback
from hedgespec.learning.learners.learner import Learner
from hedgespec.learning.objectives.objective import Losses
from hedgespec.types import Scores

Floats = NDArray[np.float64]

NEVER = 1 << 30
"""Rounds until a position closes without a drafter: every drafter of a recording answers."""


@dataclass(frozen=True, slots=True)
class AnswerLosses:
    """vectors: in order; num_known: [num_tokens + 1], how many of them are complete after so many scored tokens."""

    vectors: Losses
    num_known: NDArray[np.int64]


def answer_losses(recording: Recording, new_feedback: Callable[[], Feedback]) -> list[AnswerLosses]:
    """Every answer's loss vectors.

    new_feedback: a fresh one per answer, for the recording's drafters and depth. How many vectors a number of positions
    completes does not depend on the scores, so it is found once, position by position; the answers go through at once.
    """
    if recording.num_answers == 0:
        return []
    stepwise, num_known = new_feedback(), [0]
    for position in range(recording.num_tokens):
        num_known.append(num_known[-1] + len(_close(stepwise, recording, 0, position, position + 1)))
    answers = [_close(new_feedback(), recording, a, 0, recording.num_tokens) for a in range(recording.num_answers)]
    return [AnswerLosses(vectors, np.array(num_known)) for vectors in answers]


def weights_by_position(losses: Sequence[AnswerLosses], learner: Learner[Any], priors: Floats) -> Floats:
    """[num_answers, num_tokens + 1, num_experts]: the weights when so many tokens have been scored.

    priors: [num_answers, num_experts], each row sums to 1
    """
    return np.stack([_weights(own, learner, prior) for own, prior in zip(losses, priors, strict=True)])


def _weights(losses: AnswerLosses, learner: Learner[Any], prior: Floats) -> Floats:
    state = learner.init(prior)
    after = [learner.weights(state)]
    for vector, awake in losses.vectors:
        state = learner.update(state, vector, awake)
        after.append(learner.weights(state))
    known: Floats = np.stack(after)[losses.num_known]
    return known


def _close(feedback: Feedback, recording: Recording, answer: int, start: int, end: int) -> Losses:
    feedback.verified(end - start, 0)
    for drafter in range(recording.num_drafters):
        acceptance = recording.acceptance[answer, drafter, start:end]
        acceptance_prob = recording.acceptance_prob[answer, drafter, start:end]
        feedback.push(drafter, Scores(start, acceptance, acceptance_prob))
    return feedback.closed_losses(0)
