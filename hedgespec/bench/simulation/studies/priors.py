"""Studies of priors: what a tenant's stored preference gains or costs, and what scores of the prompt gain."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from hedgespec.bench.simulation.policies import Follow, WeightsPolicy
from hedgespec.bench.simulation.recording import Floats
from hedgespec.bench.simulation.studies.study import COMPARED, Study
from hedgespec.bench.simulation.workbench import SHIPPED, Workbench
from hedgespec.config import LearnerConfig
from hedgespec.learning.prior import mixed_prior, prompt_loss, tilted_prior
from hedgespec.store.record import ALPHA, AnswerOutcome, answer_totals

FOLLOWS: tuple[Follow, ...] = ("sample", "leader")
PROMPT_LENGTHS = (8, 16, 32, 64)


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


def prompt_study(bench: Workbench) -> Study:
    """Compare priors with and without scores of the prompt."""
    rows = []
    has_prompt_scores = np.isfinite(bench.recording.prompt_overlap).any()
    for learner in COMPARED:
        uniform = bench.summary(bench.learned_passes(learner))
        rows.append(uniform.row(learner=learner, prior="uniform", prompt_tokens=0))
        for name, length, priors in tilted_priors(bench) if has_prompt_scores else ():
            summary = bench.summary(bench.learned_passes(learner, priors=priors))
            rows.append(summary.row(learner=learner, prior=name, prompt_tokens=length))
    return Study(
        "prompt",
        "Objective rounds, shipped schedule; the prior is tilted by the drafters' scores on the last prompt "
        "tokens as in the server, as if they arrived before the first round. A recording without prompt scores gives only "
        "the rows with 0 prompt tokens.",
        rows,
    )


def tilted_priors(bench: Workbench) -> Iterator[tuple[str, int, Floats]]:
    """Yield (name of the preference, number of prompt tokens, priors tilted by them)."""
    for length in PROMPT_LENGTHS:
        yield "uniform", length, tilted(bench, bench.uniform, length)
    yield "single domain", PROMPT_LENGTHS[-1], tilted(bench, preferences(bench, [0]), PROMPT_LENGTHS[-1])
    yield "wrong domain", PROMPT_LENGTHS[-1], tilted(bench, preferences(bench, [1]), PROMPT_LENGTHS[-1])


def tilted(bench: Workbench, priors: Floats, num_tokens: int) -> Floats:
    """Tilt priors, [num_answers, num_drafters], by the last tokens of each prompt that all drafters have scored."""
    mixing = LearnerConfig().prior_mixing
    result = priors.copy()
    for answer, overlap in enumerate(bench.recording.prompt_overlap):
        is_scored = np.isfinite(overlap).all(axis=0)
        rows = overlap[:, is_scored][:, -num_tokens:]
        losses = {drafter: prompt_loss(own, rows.shape[1]) for drafter, own in enumerate(rows)}
        result[answer] = tilted_prior(priors[answer], losses, mixing)
    return result
