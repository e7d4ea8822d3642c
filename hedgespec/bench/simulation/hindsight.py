"""Expected target passes on a recording, computed exactly: of fixed drafters and of the best choices in hindsight.

Nothing is drawn at random. `fixed_passes` uses the u recursion of design 5; the others go backwards over the answer: the
passes still to come after position t are 1 + sum_k P(k tokens accepted | round starts at t) * (those after t + k + 1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hedgespec.bench.simulation.recording import Floats, by_start
from hedgespec.learning.estimators import RoundsCursor, advance


def round_starts(acceptance: NDArray[np.float32]) -> Floats:
    """Return u, the probability that each drafter, used alone, starts a round at each position.

    acceptance: [num_answers, num_drafters, num_tokens, depth]; returns [num_answers, num_drafters, num_tokens].
    """
    num_answers, num_drafters, num_tokens, depth = acceptance.shape
    rows = acceptance.reshape(num_answers * num_drafters, num_tokens, depth).astype(np.float64)
    _, starts = advance(RoundsCursor.start(len(rows), depth), rows)
    return starts[:-1].T.reshape(num_answers, num_drafters, num_tokens)


def fixed_passes(acceptance: NDArray[np.float32]) -> Floats:
    """Return the expected passes of every drafter used alone, [num_answers, num_drafters]."""
    passes: Floats = round_starts(acceptance).sum(axis=2)
    return passes


def emitted_probs(acceptance: NDArray[np.float32]) -> Floats:
    """Return the probability that a round starting at t emits k + 1 tokens, [..., num_tokens, depth + 1]."""
    survive = np.cumprod(by_start(acceptance).astype(np.float64), axis=-1)
    certain, never = np.ones_like(survive[..., :1]), np.zeros_like(survive[..., :1])
    reach = np.concatenate([certain, survive, never], axis=-1)
    probs: Floats = reach[..., :-1] - reach[..., 1:]
    return probs


def best_per_round_passes(acceptance: NDArray[np.float32]) -> Floats:
    """Return the expected passes when every round uses the best drafter for the known text, [num_answers]."""
    probs = emitted_probs(acceptance)
    num_answers, _, num_tokens, lengths = probs.shape
    to_come = np.zeros((num_answers, num_tokens + lengths))
    for t in range(num_tokens - 1, -1, -1):
        ahead = to_come[:, None, t + 1 : t + 1 + lengths]
        to_come[:, t] = 1.0 + (probs[:, :, t] * ahead).sum(axis=2).min(axis=1)
    passes: Floats = to_come[:, 0]
    return passes


def best_switch_passes(acceptance: NDArray[np.float32], switch_at: int) -> Floats:
    """Return the expected passes of the best pair of drafters, [num_answers]: one for rounds that start before switch_at,
    one for the rest."""
    probs = emitted_probs(acceptance)
    num_answers, num_drafters, num_tokens, lengths = probs.shape
    # [answer, second drafter, position], then [answer, first, second, position]; zeros behind the end
    second = np.zeros((num_answers, num_drafters, num_tokens + lengths))
    for t in range(num_tokens - 1, switch_at - 1, -1):
        second[:, :, t] = 1.0 + (probs[:, :, t] * second[:, :, t + 1 : t + 1 + lengths]).sum(axis=2)
    both = np.repeat(second[:, None], num_drafters, axis=1)
    for t in range(switch_at - 1, -1, -1):
        ahead = both[..., t + 1 : t + 1 + lengths]
        both[..., t] = 1.0 + (probs[:, :, None, t] * ahead).sum(axis=3)
    passes: Floats = both[..., 0].min(axis=(1, 2))
    return passes
