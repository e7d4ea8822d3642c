"""What a round is made of, on this machine: target pass, drafts, scores, learner, transport (`hedgespec bench overheads`).

Plain decoding, the best single head of each domain and learned selection answer the same prompts in turn. Heads of one
family cost the same per draft (n-gram costs next to nothing and is left out), so what a learned round takes beyond one of a
single head is the price of scoring all of them and of learning from it, wherever it shows: in drafts that wait, in passes
that share the machine, in the router.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hedgespec.bench.acceptance import AcceptanceTable, measure_acceptance
from hedgespec.bench.answers import measure_answer
from hedgespec.config import AppArgs
from hedgespec.learning.answer_learner import AnswerLearner
from hedgespec.learning.build import make_learner
from hedgespec.learning.feedback import make_feedback
from hedgespec.router.service import GenerationService
from hedgespec.types import SamplingParams, Scores

PLAIN, BEST, LEARNED = "plain", "best single", "learned"
ARMS = (PLAIN, BEST, LEARNED)

FEEDBACK_TOKENS = 256
TOKENS_PER_ROUND = 4


@dataclass(slots=True)
class RoundTimes:
    """Sums over the answers of one arm; `seconds` is wall time, prefill included."""

    num_rounds: int = 0
    num_tokens: int = 0
    seconds: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def tokens_per_s(self) -> float:
        return self.num_tokens / self.seconds if self.seconds else 0.0

    @property
    def mean_accepted_tokens(self) -> float:
        return self.num_tokens / self.num_rounds if self.num_rounds else 0.0

    def ms(self, part: str | None = None) -> float:
        """Milliseconds per round: of a part (`draft`, `verify`, `learn`, `overhead`), or of everything."""
        total = self.seconds if part is None else self.parts.get(part, 0.0)
        return 1e3 * total / max(self.num_rounds, 1)


@dataclass(frozen=True, slots=True)
class OverheadReport:
    """arms: by name. acceptance: drafter x domain, every drafter scored throughout. best: domain -> drafter id."""

    temperature: float
    max_draft_tokens: int
    acceptance: AcceptanceTable
    best: dict[str, str]
    arms: dict[str, RoundTimes]

    @property
    def scoring_ms(self) -> float:
        """Milliseconds that a learned round takes beyond a round of a single drafter."""
        return self.arms[LEARNED].ms() - self.arms[BEST].ms()

    @property
    def scoring_share(self) -> float:
        """The share of tokens/s that this costs."""
        learned = self.arms[LEARNED].ms()
        return self.scoring_ms / learned if learned else 0.0

    def over_plain(self, arm: str) -> float:
        plain = self.arms[PLAIN].tokens_per_s
        return self.arms[arm].tokens_per_s / plain if plain else 0.0


async def measure_overheads(
    service: GenerationService,
    scoring_service: GenerationService,
    rivals: Sequence[str],
    max_draft_tokens: int,
    prompts: Mapping[str, Sequence[NDArray[np.int32]]],
    sampling: SamplingParams,
    advance: Callable[[], None],
) -> OverheadReport:
    """scoring_service: over the same models, and nobody sleeps. rivals: who may be the best single drafter.

    advance: called after every answer, 4 per prompt
    """
    table = await measure_acceptance(
        scoring_service, prompts, [sampling.temperature], max_draft_tokens, sampling.max_tokens, advance
    )
    cells = table.cells[f"{sampling.temperature:g}"]
    best = {d: max(set(rivals) & row.keys(), key=lambda drafter: row[drafter].value) for d, row in cells.items()}
    arms = {arm: RoundTimes() for arm in ARMS}
    for domain, domain_prompts in prompts.items():
        drafters = {PLAIN: "none", BEST: best[domain], LEARNED: None}
        for prompt_ids in domain_prompts:
            for arm, drafter in drafters.items():
                await _add_answer(arms[arm], service, prompt_ids, sampling, drafter)
                advance()
    return OverheadReport(sampling.temperature, max_draft_tokens, table, best, arms)


async def _add_answer(
    times: RoundTimes,
    service: GenerationService,
    prompt_ids: NDArray[np.int32],
    sampling: SamplingParams,
    drafter: str | None,
) -> None:
    answer = await measure_answer(service, prompt_ids, sampling, drafter)
    await service.drain()  # late scores must not slow the next answer
    stats = answer.stats
    times.num_rounds += stats.num_rounds
    times.num_tokens += stats.num_emitted
    times.seconds += answer.seconds
    for part in ("draft", "verify", "learn", "overhead"):
        times.parts[part] = times.parts.get(part, 0.0) + getattr(stats, f"{part}_s")


def time_feedback(args: AppArgs, repeats: int) -> float:
    """Microseconds per round for the learner's whole part: asking, joining the scores of every drafter, updating.

    args: with a learner of full information. Objective `rounds`; rounds of TOKENS_PER_ROUND tokens, everybody scored in
    each of them: the most that it can be.
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
