"""Weights study: how the learners' weights move along one answer that changes domain twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hedgespec.bench.simulation.hindsight import fixed_passes
from hedgespec.bench.simulation.recording import Ints, Recording
from hedgespec.bench.simulation.studies.study import COMPARED, Row, Study
from hedgespec.bench.simulation.workbench import Workbench

NUM_PARTS = 3


def study(bench: Workbench) -> Study:
    """Follow the weights along a spliced answer."""
    answers = of_different_domains(bench.recording)
    recording = spliced(bench.recording, answers)
    names = recording.drafter_ids.tolist()
    ends = np.flatnonzero(np.diff(part_of(recording.num_tokens), append=NUM_PARTS)) + 1
    own = Workbench(recording, bench.runs_each, bench.seed)
    weights = {learner: own.weights(learner)[0] for learner in COMPARED}
    rows: list[Row] = []
    for answer, start, end in zip(answers, [0, *ends[:-1].tolist()], ends.tolist(), strict=True):
        best = int(fixed_passes(recording.acceptance[:, :, start:end])[0].argmin())
        shares = {f"weight of {learner}": round(float(weights[learner][end, best]), 4) for learner in COMPARED}
        domain = str(bench.recording.domains[answer])
        rows.append({"domain": domain, "start": start, "end": end, "best drafter": names[best], **shares})
    curves = {
        f"{learner} {name}": [round(float(weight), 4) for weight in weights[learner][:, drafter]]
        for learner in COMPARED
        for drafter, name in enumerate(names)
    }
    return Study(
        "weights",
        f"One answer at temperature {recording.temperatures[0]:g}, spliced from a third each of answers of different "
        "domains, picked for the clear lead of another drafter in each. best drafter: needs the fewest passes on this "
        "third alone; then its weight at the third's end. The figure has every drafter's weight by number of scored "
        "tokens. Objective rounds, uniform start, every position scored at once.",
        rows,
        curves,
    )


def of_different_domains(recording: Recording) -> list[int]:
    """Pick for each part the answer on which one drafter leads most clearly, of a new domain and with a new leader.

    Without such an answer, one of another domain than the part before, or any. This is an illustration, not a sample. The
    answers have the highest temperature: a small target repeats itself at 0, which suits the n-gram drafter everywhere.
    """
    warm = recording.take(recording.temperatures == recording.temperatures.max())
    indices = np.flatnonzero(recording.temperatures == recording.temperatures.max())
    chosen: list[int] = []
    leaders: list[int] = []
    for part in range(NUM_PARTS):
        passes = fixed_passes(warm.acceptance[:, :, part_of(warm.num_tokens) == part])
        first, second = np.sort(passes, axis=1)[:, [0, min(1, warm.num_drafters - 1)]].T
        best = passes.argmin(axis=1)
        choices = (
            ~np.isin(warm.domains, warm.domains[chosen]) & ~np.isin(best, leaders),
            ~np.isin(warm.domains, warm.domains[chosen[-1:]]),
            np.ones(warm.num_answers, bool),
        )
        eligible = next(choice for choice in choices if choice.any())
        pick = int(np.where(eligible, second / first, 0.0).argmax())
        chosen.append(pick)
        leaders.append(int(best[pick]))
    return [int(index) for index in indices[chosen]]


def spliced(recording: Recording, answers: Sequence[int]) -> Recording:
    """Make one answer of NUM_PARTS equal parts, each from its own answer."""
    owner = np.asarray(answers)[part_of(recording.num_tokens)]
    return recording.spliced(owner[None], np.array(["+".join(recording.domains[list(answers)].tolist())]))


def part_of(num_tokens: int) -> Ints:
    """Return the part that each position belongs to, [num_tokens]."""
    return np.arange(num_tokens, dtype=np.int64) * NUM_PARTS // num_tokens
