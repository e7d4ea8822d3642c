"""Replay: decode recorded texts again under a policy, many runs in step.

Run b decodes answer `answers[b]`: at each round start the policy names an expert, the expert's draft is accepted token by
token with the recorded probabilities, and one more token is emitted, until the answer ends. At temperature 0 the
probabilities are 0 and 1, so the replay is exactly what would have happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hedgespec.bench.simulation.recording import Floats, Ints, Recording, by_start


@dataclass(frozen=True, slots=True)
class Moment:
    """The start of round `round_index` in every run.

    answers:   [num_runs], the answer that each run decodes
    positions: [num_runs], where the round starts; the number of tokens when the run is over
    points:    [num_runs], uniform in [0, 1), the run's own randomness for this choice
    """

    round_index: int
    answers: Ints
    positions: Ints
    points: Floats


class Policy(Protocol):
    """Chooses an expert for each run in each round. One object serves one replay."""

    def choose(self, moment: Moment) -> Ints:
        """Return an expert index per run, [num_runs]; those of runs that are over are ignored."""
        ...

    def played(self, moment: Moment, chosen: Ints, num_emitted: Ints) -> None:
        """Take note of the round's outcome. num_emitted: [num_runs], 0 where the run was over."""
        ...


@dataclass(frozen=True, slots=True)
class Replayed:
    """The outcome of a replay.

    passes:  [num_runs], target passes
    seconds: [num_runs], the sum of the chosen experts' costs
    chosen:  [num_runs, num_tokens], the expert of the round that starts at a position, -1 where none starts
    """

    passes: Ints
    seconds: Floats
    chosen: NDArray[np.int16]


def replay(recording: Recording, policy: Policy, answers: Ints, seed: int, costs: Floats | None = None) -> Replayed:
    """Decode `answers` under a policy.

    costs: [num_drafters], seconds of one round; None is 1. The same seed gives the same runs, and policies that are compared
    on one seed have the same luck: whether a token is accepted depends on one random number per run and position.
    """
    starts = by_start(recording.acceptance)
    num_tokens, depth = recording.num_tokens, recording.max_draft_tokens
    num_runs = len(answers)
    luck_of, choice_of = (np.random.default_rng([seed, stream]) for stream in (0, 1))
    luck = np.pad(luck_of.random((num_runs, num_tokens)), ((0, 0), (0, depth)))
    points = choice_of.random((num_runs, num_tokens))
    price = np.ones(recording.num_drafters) if costs is None else costs

    runs = np.arange(num_runs)
    positions = np.zeros(num_runs, np.int64)
    passes, seconds = np.zeros(num_runs, np.int64), np.zeros(num_runs)
    choices = np.full((num_runs, num_tokens), -1, np.int16)
    round_index = 0
    while (positions < num_tokens).any():
        moment = Moment(round_index, answers, positions, points[:, round_index])
        chosen = policy.choose(moment)
        going = positions < num_tokens
        at = np.minimum(positions, num_tokens - 1)
        accepted = luck[runs[:, None], at[:, None] + np.arange(depth)] < starts[answers, chosen, at]
        emitted = np.minimum(1 + np.cumprod(accepted, axis=1).sum(axis=1), num_tokens - positions)
        choices[runs[going], at[going]] = chosen[going]
        passes += going
        seconds += np.where(going, price[chosen], 0.0)
        policy.played(moment, chosen, emitted)
        positions = positions + emitted
        round_index += 1
    return Replayed(passes, seconds, choices)
