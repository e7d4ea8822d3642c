"""Learning from rounds: bandits from what the chosen drafter got, `throughput` from how long rounds take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from hedgespec.config import LearnerConfig
from hedgespec.learners.registry import make_learner
from hedgespec.router.answer import throughput_experts
from hedgespec.router.bandit import AnswerBandit
from hedgespec.router.learning import AnswerLearner
from hedgespec.router.selection import LearnedSelection
from hedgespec.router.step_times import StepTimes
from hedgespec.speculative.objectives import Expert
from tests.scripted_answer import EXPECTED, Run, fleet_of
from tests.scripted_models import ScriptedDrafter


async def test_a_bandit_learns_from_the_chosen_drafter_alone_and_asks_for_no_scores() -> None:
    """Its loss is 1 - emitted / (K + 1), and everybody else is asleep to the learner."""
    good, bad = ScriptedDrafter("good", 5), ScriptedDrafter("bad", 0)
    run = Run(fleet_of(bad, good), ["bad", "good"], num_tokens=200)
    bandit = AnswerBandit(make_learner("hedge"), np.array([0.5, 0.5]), 5)
    run.loop._learner = run.panel._learner = run.learner = bandit
    run.loop._selection = LearnedSelection(bandit, 1)
    seen: list[tuple[list[float], list[bool]]] = []
    update = bandit._learner.update

    def spy(state: object, losses: np.ndarray, awake: np.ndarray) -> object:
        seen.append((losses.tolist(), awake.tolist()))
        return update(state, losses, awake)

    bandit._learner.update = spy  # type: ignore[method-assign]
    assert await run.finish() == list(range(4, 204))
    played = [r for r in run.reports if r.drafter_id is not None]
    assert len(seen) == len(played)
    for (losses, awake), report in zip(seen, played, strict=True):
        index = ["bad", "good"].index(str(report.drafter_id))
        assert awake == [index == 0, index == 1]
        if report is not run.reports[-1]:
            assert losses[index] == pytest.approx(1 - len(report.token_ids) / 6)
    assert not any(observation.wants_scores for observation in (*good.observed, *bad.observed))
    assert bandit.expected_passes() == {}
    assert run.reports[-1].weights.sum() == pytest.approx(1.0)


def test_throughput_experts_are_all_pairs_and_none_and_a_request_shortens_them() -> None:
    assert throughput_experts(2, (2, 5), 5) == (Expert(0, 2), Expert(0, 5), Expert(1, 2), Expert(1, 5), Expert(None, 0))
    assert throughput_experts(1, (2, 5), 1) == (Expert(0, 1), Expert(None, 0))
    assert throughput_experts(1, (), 4) == (Expert(0, 4), Expert(None, 0))


class FixedTimes(StepTimes):
    """Drafting with `slow` takes three times as long as a pass, with `fast` nothing."""

    def seconds(self, experts: Sequence[Expert], drafter_ids: Sequence[str]) -> NDArray[np.float64]:
        return np.array([4.0 if e.drafter_index == drafter_ids.index("slow") else 1.0 for e in experts])


async def test_throughput_learns_that_a_good_draft_can_take_too_long() -> None:
    """Both drafters hit five of five: by passes they are alike, by seconds they are not."""
    run = Run(
        fleet_of(ScriptedDrafter("slow", 5), ScriptedDrafter("fast", 5)),
        ["slow", "fast"],
        num_tokens=400,
        learner_config=LearnerConfig(objective="throughput"),
        step_times=FixedTimes(),
        draft_lengths=(1, 5),
    )
    assert await run.finish() == list(range(4, 404))
    assert isinstance(run.learner, AnswerLearner)
    weights = run.learner.weights
    assert weights.shape == (2,)
    assert weights[1] > 0.9
    best = int(run.learner.expert_weights.argmax())
    assert run.learner.experts[best] == Expert(1, 5)
    assert {r.depth for r in run.reports} >= {1, 5}, "both lengths were tried"
    assert run.learner.expected_passes() == pytest.approx({0: 67, 1: 67}), "preferences still count passes"


async def test_rounds_tell_their_times_by_drafter_and_length() -> None:
    """Only what was verified counts: the shorter draft at the end of the answer is another length."""
    run = Run(fleet_of(ScriptedDrafter("a", 5)), ["a"], learn=False)
    assert await run.finish() == EXPECTED
    depths = {r.depth for r in run.reports}
    assert depths == {5, 3}
    assert set(run.step_times._draft_s["a"]) == set(run.step_times._verify_s) == depths
    assert all(seconds > 0.0 for seconds in run.step_times._verify_s.values())


async def test_throughput_without_lengths_chooses_between_drafters_and_none() -> None:
    run = Run(
        fleet_of(ScriptedDrafter("a", 5), ScriptedDrafter("b", 0)),
        ["a", "b"],
        learner_config=LearnerConfig(objective="throughput"),
    )
    assert await run.finish() == EXPECTED
    assert {r.depth for r in run.reports} <= {0, 1, 2, 3, 4, 5}
