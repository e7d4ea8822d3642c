"""The concurrency benchmark compares many answers at once with one after the other, on exact models."""

from __future__ import annotations

import math

import numpy as np

from hedgespec.assembly.local_service import local_service
from hedgespec.bench.answers import ArmResult
from hedgespec.bench.concurrency import ConcurrencyReport, measure_concurrency
from hedgespec.types import SamplingParams
from tests.toy_args import NEAR_AND_FAR


async def test_every_concurrency_decodes_the_same_answers() -> None:
    """The number of tokens and of plain passes at temperature 0 cannot depend on how many answers are in progress; one
    after the other is always measured."""
    num_steps = 0

    def advance() -> None:
        nonlocal num_steps
        num_steps += 1

    prompts = [np.arange(4, dtype=np.int32), np.arange(6, dtype=np.int32)]
    async with local_service(NEAR_AND_FAR) as local:
        sampling = SamplingParams(temperature=0.0, max_tokens=12)
        report = await measure_concurrency(local.service, ["near", "far"], prompts, sampling, [4, 2], 2, advance)
    assert num_steps == 2 + 2 * 3 * 3
    assert set(report.singles) == {"near", "far"}
    assert list(report.results) == ["plain", report.best_single, "learned"]
    for by_level in report.results.values():
        assert list(by_level) == [1, 2, 4]
        assert all(result.tokens == [48, 48] for result in by_level.values())
    assert all(result.passes == [48, 48] for result in report.results["plain"].values())
    assert set(report.as_json()["arms"]["plain"]) == {"1", "2", "4"}


def test_ratios_are_medians_of_ratios_within_a_repeat() -> None:
    """A repeat on a slow machine counts like any other, and one outlier does not decide."""
    one = ArmResult(tokens=[100] * 3, passes=[50] * 3, seconds=[1.0, 10.0, 2.0])
    many = ArmResult(tokens=[100] * 3, passes=[50] * 3, seconds=[0.5, 2.5, 2.0])
    report = ConcurrencyReport(0.0, 10, 8, {}, {"plain": {1: one, 8: many}})
    assert math.isclose(report.speedup("plain", 8), 2.0)
    assert report.over_plain("plain", 8) == 1.0
    assert many.mean_accepted_tokens.value == 2.0
