"""The overheads benchmark sums the parts of a round over the same prompts for every arm, on exact models."""

from __future__ import annotations

import numpy as np
import pytest

from hedgespec.assembly.local_service import local_service
from hedgespec.bench.acceptance import AcceptanceTable
from hedgespec.bench.answers import LEARNED, PLAIN, ArmResult
from hedgespec.bench.overheads import BEST, OverheadReport, measure_overheads, time_feedback
from hedgespec.types import SamplingParams
from tests.toy_args import NEAR_AND_FAR


async def test_every_arm_answers_every_prompt_and_every_drafter_has_its_cell() -> None:
    num_steps = 0

    def advance() -> None:
        nonlocal num_steps
        num_steps += 1

    prompts = {"a": [np.arange(4, dtype=np.int32)], "b": [np.arange(6, dtype=np.int32)]}
    sampling = SamplingParams(temperature=0.0, max_tokens=60, ignore_eos=True)
    wide_awake = NEAR_AND_FAR.speculation.model_copy(update={"wake_every_rounds": 0, "score_timeout_rounds": 1000})
    async with local_service(NEAR_AND_FAR) as local:
        scoring = local.variant(NEAR_AND_FAR.model_copy(update={"speculation": wide_awake}))
        report = await measure_overheads(local.service, scoring, ["near", "far"], 5, prompts, sampling, advance)
    assert num_steps == 2 * 4
    assert report.best == {"a": "near", "b": "near"}
    assert {arm: sum(result.tokens) for arm, result in report.arms.items()} == dict.fromkeys(
        (PLAIN, BEST, LEARNED), 120
    )
    assert sum(report.arms[PLAIN].passes) == 120 > sum(report.arms[BEST].passes)
    assert report.arms[PLAIN].parts_ms["verify"] > 0.0
    assert report.arms[PLAIN].parts_ms["draft"] == pytest.approx(0.0, abs=0.1)
    for row in report.acceptance.cells["0"].values():
        assert set(row) == {"near", "far"}
    assert set(report.as_json()["arms"]) == {PLAIN, BEST, LEARNED}


def test_scoring_is_what_a_learned_round_takes_beyond_a_single_drafters() -> None:
    arms = {
        PLAIN: ArmResult([100], [100], [1.0]),
        BEST: ArmResult([200], [50], [1.0], {"draft": 0.25}),
        LEARNED: ArmResult([200], [40], [1.0]),
    }
    report = OverheadReport(0.0, 5, AcceptanceTable(5, 1, 200, {}, {}), {}, arms)
    assert report.scoring_ms == pytest.approx(25.0 - 20.0)
    assert report.scoring_share == pytest.approx(0.2)
    assert report.over_plain(LEARNED) == pytest.approx(2.0)
    assert report.arms[BEST].parts_ms["draft"] == pytest.approx(5.0)


def test_the_learners_part_of_a_round_is_timed() -> None:
    assert 0.0 < time_feedback(NEAR_AND_FAR, 1) < 1e6
