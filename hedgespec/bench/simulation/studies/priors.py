"""Prior study: what a tenant's stored preference gains when it fits the answer, and costs when it does not."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from hedgespec.bench.simulation.policies import Follow, WeightsPolicy
from hedgespec.bench.simulation.studies.study import COMPARED, Study
from hedgespec.bench.simulation.workbench import SHIPPED, Workbench
from hedgespec.config import LearnerConfig
from hedgespec.learning.prior import mixed_prior
from hedgespec.store.record import ALPHA, AnswerOutcome, answer_totals

Floats = NDArray[np.float64]

FOLLOWS: tuple[Follow, ...] = ("sample", "leader")


def study(bench: Workbench) -> Study:
    """Compare preferences from the answer's own domain, from others and from none."""
    num_others = len(bench.recording.domain_names) - 1
    cases = {
        "uniform": [bench.uniform],
        "single domain": [preferences(bench, [0])],
        "two domains": [preferences(bench, [0, other]) for other in range(1, num_others + 1)],
        "wrong domain": [preferences(bench, [other]) for other in range(1, num_others + 1)],
        "all domains": [preferences(bench, list(range(num_others + 1)))],
    }
    rows = []
    for learner, (name, priors) in product(COMPARED, cases.items()):
        weights = [bench.weights(learner, priors=prior) for prior in priors]
        for follow in FOLLOWS:
            passes = [bench.passes(WeightsPolicy(own, SHIPPED, follow)) for own in weights]
            summary = bench.summary(np.mean(passes, axis=0))
            rows.append(summary.row(learner=learner, follow=follow, preference=name))
    return Study(
        "priors",
        "Objective rounds, shipped schedule. A preference is made of the other recorded answers of the named "
        "domains at the same temperature, by the store's rule, and mixed with the uniform prior as in the server. Two "
        "domains: the answer's own and one other; wrong domain: another one alone; both averaged over all others.",
        rows,
    )


def preferences(bench: Workbench, offsets: list[int]) -> Floats:
    """Return priors from other answers of some domains, [num_answers, num_drafters].

    offsets: the domains, counted in the list of domains from the answer's own (0)
    """
    recording, mixing = bench.recording, LearnerConfig().prior_mixing
    names = recording.domain_names
    wins = np.stack([answer_wins(passes, recording.num_tokens) for passes in bench.fixed])
    priors = np.empty_like(wins)
    for answer in range(recording.num_answers):
        own = names.index(str(recording.domains[answer]))
        domains = [names[(own + offset) % len(names)] for offset in offsets]
        others = np.isin(recording.domains, domains) & (recording.temperatures == recording.temperatures[answer])
        others[answer] = False
        total = wins[others].sum(axis=0) + ALPHA / recording.num_drafters
        priors[answer] = mixed_prior(total / total.sum(), mixing)
    return priors


def answer_wins(passes: Floats, num_tokens: int) -> Floats:
    """Return what one answer adds to a preference by the store's rule, [num_drafters]."""
    totals = answer_totals(AnswerOutcome({str(i): float(p) for i, p in enumerate(passes)}, num_tokens))
    return np.array([totals[str(i)].wins for i in range(len(passes))])
