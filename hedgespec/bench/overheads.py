"""Measure what the parts of a round cost: target pass, drafts, scores, learner (`hedgespec bench overheads`).

Plain decoding, the best single head of each domain and learned selection answer the same prompts in turn. Heads of one
family cost the same per draft (n-gram costs nearly nothing and is left out), so the time of a learned round beyond that of
a single head is the cost of scoring all heads and learning from it, wherever it arises: in drafts that wait, in passes that
share the machine, in the router.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hedgespec.bench.acceptance import AcceptanceTable, measure_acceptance
from hedgespec.bench.answers import LEARNED, PLAIN, ArmResult, measure_answer
from hedgespec.config import AppArgs
from hedgespec.learning.answer_learner import AnswerLearner
from hedgespec.learning.build import make_learner
from hedgespec.learning.feedback import make_feedback
from hedgespec.router.service import GenerationService
from hedgespec.types import SamplingParams, Scores

BEST = "best single"
ARMS = (PLAIN, BEST, LEARNED)

FEEDBACK_TOKENS = 256
TOKENS_PER_ROUND = 4


@dataclass(frozen=True, slots=True)
class OverheadReport:
    """The results of the three arms, and the acceptance of every drafter.

    acceptance: measured with every drafter scored throughout; best: domain -> id of the best single drafter
    """

    temperature: float
    max_draft_tokens: int
    acceptance: AcceptanceTable
    best: dict[str, str]
    arms: dict[str, ArmResult]

    @property
    def scoring_ms(self) -> float:
        """Milliseconds by which a learned round is longer than a round of a single drafter."""
        return self.arms[LEARNED].round_ms - self.arms[BEST].round_ms

    @property
    def scoring_share(self) -> float:
        """The share of tokens/s that scoring_ms costs."""
        return self.scoring_ms / self.arms[LEARNED].round_ms

    def over_plain(self, arm: str) -> float:
        """Tokens/s of an arm / tokens/s of plain decoding."""
        return self.arms[arm].tokens_per_s.value / self.arms[PLAIN].tokens_per_s.value

    def as_json(self) -> dict[str, Any]:
        """Return the report with its derived figures, so that a reader of the JSON does not have to compute them."""
        return {
            "max_draft_tokens": self.max_draft_tokens,
            "scoring_ms": self.scoring_ms,
            "scoring_share": self.scoring_share,
            "best_single": self.best,
            "arms": {
                arm: {"round_ms": result.round_ms, "over_plain": self.over_plain(arm), **result.as_json()}
                for arm, result in self.arms.items()
            },
            "acceptance": self.acceptance,
        }


async def measure_overheads(
    service: GenerationService,
    scoring_service: GenerationService,
    rivals: Sequence[str],
    max_draft_tokens: int,
    prompts: Mapping[str, Sequence[NDArray[np.int32]]],
    sampling: SamplingParams,
    advance: Callable[[], None],
) -> OverheadReport:
    """Find the best single drafter of every domain, then decode every prompt with the three arms.

    scoring_service: over the same models, with every drafter scored in every round
    rivals:          ids of the drafters that may be the best single one
    advance:         called after every answer, 4 per prompt
    """
    table = await measure_acceptance(
        scoring_service, prompts, [sampling.temperature], max_draft_tokens, sampling.max_tokens, advance
    )
    cells = table.cells[f"{sampling.temperature:g}"]
    best = {d: max(set(rivals) & row.keys(), key=lambda drafter: row[drafter].value) for d, row in cells.items()}
    arms = {arm: ArmResult() for arm in ARMS}
    for domain, domain_prompts in prompts.items():
        drafters = {PLAIN: "none", BEST: best[domain], LEARNED: None}
        for prompt_ids in domain_prompts:
            for arm, drafter in drafters.items():
                arms[arm].add(await measure_answer(service, prompt_ids, sampling, drafter))
                await service.drain()  # late scores must not slow the next answer
                advance()
    return OverheadReport(sampling.temperature, max_draft_tokens, table, best, arms)


def time_feedback(args: AppArgs, repeats: int) -> float:
    """Measure the learner's part of a round in microseconds: requesting scores, joining them, updating.

    args: with a learner of full information. Objective `rounds`; rounds of TOKENS_PER_ROUND tokens, every drafter scored in
    each of them, which is the most that it can cost.
    """
    num_drafters, depth = len(args.drafters), args.speculation.max_draft_tokens
    rng = np.random.default_rng(0)
    acceptance = rng.random((num_drafters, FEEDBACK_TOKENS, depth), dtype=np.float32)
    times = []
    for _ in range(repeats):
        feedback = make_feedback("rounds", num_drafters, depth, args.speculation.score_timeout_rounds)
        prior = np.full(num_drafters, 1.0 / num_drafters)
        learning = AnswerLearner(make_learner(args.learner.name), prior, feedback)
        for round_index, start in enumerate(range(0, FEEDBACK_TOKENS, TOKENS_PER_ROUND)):
            started = time.perf_counter()
            learning.verified(TOKENS_PER_ROUND, round_index, is_last=False)
            for drafter in range(num_drafters):
                scores = Scores(start, acceptance[drafter, start : start + TOKENS_PER_ROUND])
                learning.add_scores(drafter, scores, more_coming=drafter < num_drafters - 1)
            learning.begin_round(round_index + 1)
            times.append(time.perf_counter() - started)
    return float(1e6 * np.median(times))
