"""Measure several answers at once in one process beside one after the other (`hedgespec bench decode --concurrency N`).

Every measurement decodes the same answers; only the number in progress at a time differs. Arms and concurrencies take
turns within a repeat, and ratios are formed within it: a noisy machine is noisy for all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hedgespec.bench.answers import LEARNED, PLAIN, ArmResult, MeasuredAnswer, measure_answer, rotated
from hedgespec.router.service import GenerationService
from hedgespec.types import SamplingParams


@dataclass(frozen=True, slots=True)
class ConcurrencyReport:
    """results[arm][concurrency], with an entry per repeat; arms are plain, the best single drafter and learned.

    singles: tokens/s of each drafter in a trial with one answer at a time
    results: concurrency 1 is always measured; seconds are from the start of the first answer to the end of the last
    """

    temperature: float
    max_tokens: int
    num_answers: int
    singles: dict[str, float]
    results: dict[str, dict[int, ArmResult]]

    @property
    def best_single(self) -> str:
        """The drafter with the most tokens/s in the trials."""
        return max(self.singles, key=lambda drafter: self.singles[drafter])

    def speedup(self, arm: str, concurrency: int) -> float:
        """Median over the repeats of tokens/s at this concurrency / tokens/s of the same arm one after the other."""
        return _median_ratio(self.results[arm][concurrency], self.results[arm][1])

    def over_plain(self, arm: str, concurrency: int) -> float:
        """Median over the repeats of this arm's tokens/s / plain decoding's at the same concurrency."""
        return _median_ratio(self.results[arm][concurrency], self.results[PLAIN][concurrency])

    def tokens_per_s(self, arm: str, concurrency: int) -> float:
        """Median over the repeats."""
        return float(np.median(_rates(self.results[arm][concurrency])))

    def as_json(self) -> dict[str, Any]:
        """Return the report with its derived figures, so that a reader of the JSON does not have to compute them."""
        return {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "num_answers": self.num_answers,
            "trial_tokens_per_s": self.singles,
            "arms": {
                arm: {
                    str(level): {
                        "tokens_per_s": self.tokens_per_s(arm, level),
                        "over_one_after_the_other": self.speedup(arm, level),
                        "over_plain": self.over_plain(arm, level),
                        "mean_accepted_tokens": result.mean_accepted_tokens.value,
                        "tokens": result.tokens,
                        "seconds": [round(s, 4) for s in result.seconds],
                    }
                    for level, result in by_level.items()
                }
                for arm, by_level in self.results.items()
            },
        }


async def measure_concurrency(
    service: GenerationService,
    drafter_ids: Sequence[str],
    prompts: Sequence[NDArray[np.int32]],
    sampling: SamplingParams,
    concurrencies: Sequence[int],
    num_repeats: int,
    advance: Callable[[], None],
) -> ConcurrencyReport:
    """Decode max(concurrencies) answers at every concurrency; prompts are used in turn, so that domains mix.

    advance: called after each of the len(drafter_ids) trials, then num_repeats * 3 arms (1 without drafters) *
    concurrencies (1 included) times
    """
    levels = sorted({1, *concurrencies})
    num_answers = levels[-1]
    work = [prompts[index % len(prompts)] for index in range(num_answers)]
    singles: dict[str, float] = {}
    for drafter_id in drafter_ids:
        trial = ArmResult()
        await _measure(trial, 1, service, work[: len(prompts)], sampling, drafter_id)
        singles[drafter_id] = float(_rates(trial)[0])
        advance()
    arms: dict[str, str | None] = {PLAIN: "none"}
    if singles:
        best = max(singles, key=lambda drafter: singles[drafter])
        arms |= {best: best, LEARNED: None}
    results = {arm: {level: ArmResult() for level in levels} for arm in arms}
    cases = [(arm, level) for arm in arms for level in levels]
    for repeat in range(num_repeats):
        for arm, level in rotated(cases, repeat):
            await _measure(results[arm][level], level, service, work, sampling, arms[arm])
            advance()
    return ConcurrencyReport(sampling.temperature, sampling.max_tokens, num_answers, singles, results)


async def _measure(
    result: ArmResult,
    concurrency: int,
    service: GenerationService,
    work: Sequence[NDArray[np.int32]],
    sampling: SamplingParams,
    drafter: str | None,
) -> None:
    """Decode all prompts, `concurrency` at a time, and add them to the result as one entry."""
    gate = asyncio.Semaphore(concurrency)

    async def answer(prompt_ids: NDArray[np.int32]) -> MeasuredAnswer:
        async with gate:
            return await measure_answer(service, prompt_ids, sampling, drafter)

    started = time.perf_counter()
    answers = await asyncio.gather(*map(answer, work))
    seconds = time.perf_counter() - started
    num_tokens = sum(answer.stats.num_emitted for answer in answers)
    result.add_counts(num_tokens, sum(answer.stats.num_rounds for answer in answers), seconds)
    await service.drain()  # late scores belong to these answers and must not slow the next ones


def _rates(result: ArmResult) -> NDArray[np.float64]:
    """Return tokens/s of each repeat."""
    return np.divide(result.tokens, result.seconds)


def _median_ratio(result: ArmResult, base: ArmResult) -> float:
    return float(np.median(_rates(result) / _rates(base)))
