"""Many answers at once in one process beside one after the other (`hedgespec bench decode --concurrency N`).

Every measurement decodes the same answers; only how many of them are in progress at a time differs. Arms and
concurrencies take turns within a repeat, and ratios are formed within it: a noisy machine is noisy for all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hedgespec.bench.answers import MeasuredAnswer, measure_answer
from hedgespec.bench.decode import LEARNED, PLAIN
from hedgespec.protocols import Generator
from hedgespec.types import SamplingParams

Drain = Callable[[], Awaitable[None]]
"""Waits until a generator has no work left over from its answers."""


@dataclass(slots=True)
class ConcurrencyResult:
    """One arm with `concurrency` answers in progress; entries are per repeat.

    seconds: from the start of the first answer to the end of the last
    """

    concurrency: int
    tokens: list[int] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def tokens_per_s(self) -> list[float]:
        return [tokens / seconds for tokens, seconds in zip(self.tokens, self.seconds, strict=True)]

    @property
    def mean_accepted_tokens(self) -> float:
        return sum(self.tokens) / sum(self.passes)


@dataclass(frozen=True, slots=True)
class ConcurrencyReport:
    """best_single: the drafter with most tokens per second in `singles`, a trial of each with one answer at a time.

    results[arm][concurrency]: arms are plain, the best single drafter and learned; concurrency 1 is always there
    """

    temperature: float
    max_tokens: int
    num_answers: int
    singles: dict[str, float]
    results: dict[str, dict[int, ConcurrencyResult]]

    @property
    def best_single(self) -> str:
        return max(self.singles, key=lambda drafter: self.singles[drafter])

    def speedup(self, arm: str, concurrency: int) -> float:
        """Median over the repeats of tokens/s at this concurrency / tokens/s of the same arm one after the other."""
        return _median_ratio(self.results[arm][concurrency], self.results[arm][1])

    def over_plain(self, arm: str, concurrency: int) -> float:
        """Median over the repeats of this arm's tokens/s / plain decoding's at the same concurrency."""
        return _median_ratio(self.results[arm][concurrency], self.results[PLAIN][concurrency])


async def measure_concurrency(
    generator: Generator,
    drain: Drain,
    drafter_ids: Sequence[str],
    prompts: Sequence[NDArray[np.int32]],
    sampling: SamplingParams,
    concurrencies: Sequence[int],
    num_repeats: int,
    advance: Callable[[], None],
) -> ConcurrencyReport:
    """Decode max(concurrencies) answers at every concurrency; prompts are used in turn, so that domains mix.

    advance: called after every decoding of the answers: len(drafter_ids) trials, then num_repeats * 3 arms (2 without
    drafters) * concurrencies, 1 included
    """
    levels = sorted({1, *concurrencies})
    num_answers = levels[-1]
    work = [prompts[index % len(prompts)] for index in range(num_answers)]
    singles: dict[str, float] = {}
    for drafter_id in drafter_ids:
        trial = ConcurrencyResult(1)
        await _measure(trial, generator, drain, work[: len(prompts)], sampling, drafter_id)
        singles[drafter_id] = trial.tokens_per_s[0]
        advance()
    arms: dict[str, str | None] = {PLAIN: "none"}
    if singles:
        best = max(singles, key=lambda drafter: singles[drafter])
        arms |= {best: best, LEARNED: None}
    results = {arm: {level: ConcurrencyResult(level) for level in levels} for arm in arms}
    for arm, level in _turns(arms, levels, num_repeats):
        await _measure(results[arm][level], generator, drain, work, sampling, arms[arm])
        advance()
    return ConcurrencyReport(sampling.temperature, sampling.max_tokens, num_answers, singles, results)


async def _measure(
    result: ConcurrencyResult,
    generator: Generator,
    drain: Drain,
    work: Sequence[NDArray[np.int32]],
    sampling: SamplingParams,
    drafter: str | None,
) -> None:
    waiting = asyncio.Semaphore(result.concurrency)

    async def answer(prompt_ids: NDArray[np.int32]) -> MeasuredAnswer:
        async with waiting:
            return await measure_answer(generator, prompt_ids, sampling, drafter)

    started = time.perf_counter()
    answers = await asyncio.gather(*map(answer, work))
    result.seconds.append(time.perf_counter() - started)
    result.tokens.append(sum(answer.stats.num_emitted for answer in answers))
    result.passes.append(sum(answer.stats.num_rounds for answer in answers))
    await drain()  # late scores belong to these answers and must not slow the next ones


def _turns(arms: Mapping[str, str | None], levels: Sequence[int], num_repeats: int) -> Iterator[tuple[str, int]]:
    """Everything once per repeat; who begins rotates."""
    cases = [(arm, level) for arm in arms for level in levels]
    for repeat in range(num_repeats):
        first = repeat % len(cases)
        yield from (*cases[first:], *cases[:first])


def _median_ratio(result: ConcurrencyResult, base: ConcurrencyResult) -> float:
    return float(np.median(np.divide(result.tokens_per_s, base.tokens_per_s)))


def concurrency_json(report: ConcurrencyReport) -> dict[str, object]:
    """The report with its derived ratios, so that a reader of the JSON does not have to compute them."""
    return {
        "temperature": report.temperature,
        "max_tokens": report.max_tokens,
        "num_answers": report.num_answers,
        "trial_tokens_per_s": report.singles,
        "arms": {
            arm: {
                str(level): {
                    "tokens_per_s": float(np.median(result.tokens_per_s)),
                    "over_one_after_the_other": report.speedup(arm, level),
                    "over_plain": report.over_plain(arm, level),
                    "mean_accepted_tokens": result.mean_accepted_tokens,
                    "tokens": result.tokens,
                    "seconds": [round(s, 4) for s in result.seconds],
                }
                for level, result in by_level.items()
            }
            for arm, by_level in report.results.items()
        },
    }
