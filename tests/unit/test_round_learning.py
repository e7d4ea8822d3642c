"""The router can learn from rounds: bandits from the chosen drafter's outcome, `time` from how long rounds take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from hedgespec.catalogue import BANDITS, LEARNERS
from hedgespec.config import AppArgs, DrafterConfig, LearnerConfig, SpeculationConfig
from hedgespec.errors import ReplicaLost
from hedgespec.learning.answer_bandit import AnswerBandit
from hedgespec.learning.answer_learner import AnswerLearner
from hedgespec.learning.build import make_answer_learning
from hedgespec.learning.experts import Expert
from hedgespec.learning.objectives.time import experts_by_length
from hedgespec.learning.step_times import AnswerTimes, StepTimes
from tests.scripted_answer import EXPECTED, Run, fleet_of
from tests.scripted_models import ScriptedDrafter


class FixedTimes(AnswerTimes):
    """Rounds with drafter 0 take three times as long as all others."""

    def __init__(self) -> None:
        super().__init__(StepTimes(), ["a", "b"])

    def seconds(self, experts: Sequence[Expert]) -> NDArray[np.float64]:
        return np.array([3.0 if e.drafter_index == 0 else 1.0 for e in experts])


async def test_a_bandit_learns_from_the_chosen_drafter_alone_and_asks_for_no_scores() -> None:
    """The loss of the chosen drafter is 1 - emitted / (K + 1), and all other drafters are asleep to the learner."""
    good, bad = ScriptedDrafter("good", 5), ScriptedDrafter("bad", 0)
    config = LearnerConfig(name="exp3spec")
    run = Run(fleet_of(bad, good), ["bad", "good"], num_tokens=200, learner_config=config)
    assert isinstance(run.learner, AnswerBandit)
    bandit, seen = run.learner, []
    update = bandit._bandit.update

    def spy(state: object, losses: np.ndarray, awake: np.ndarray) -> object:
        seen.append((losses.tolist(), awake.tolist()))
        return update(state, losses, awake)

    bandit._bandit.update = spy  # type: ignore[method-assign]
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


@pytest.mark.parametrize("name", BANDITS.names())
async def test_every_bandit_serves_and_survives_the_drafter_it_insists_on(name: str) -> None:
    """A drafter that dies is masked, whatever weight the bandit gives it; tokens and rounds are unharmed."""
    dying = ScriptedDrafter("dying", 5)
    run = Run(fleet_of(dying, ScriptedDrafter("b", 1)), ["dying", "b"], learner_config=LearnerConfig(name=name))
    async for report in run.loop.rounds():
        run.reports.append(report)
        if report.round_index == 2:
            dying.fail_draft = ReplicaLost("gone")
    assert await run.settle() == EXPECTED
    assert {r.drafter_id for r in run.reports[-3:-1]} == {"b"}


@pytest.mark.parametrize("name", LEARNERS.names())
@pytest.mark.parametrize("objective", ["rounds", "time"])
async def test_every_learner_serves(name: str, objective: Literal["rounds", "time"]) -> None:
    drafters = ScriptedDrafter("a", 0), ScriptedDrafter("b", 5)
    baseline = "b" if name == "safe" else None
    config = LearnerConfig(name=name, objective=objective, baseline=baseline)
    run = Run(fleet_of(*drafters), ["a", "b"], num_tokens=100, learner_config=config, step_times=FixedTimes())
    assert await run.finish() == list(range(4, 104))
    assert run.reports[-1].weights[1] > run.reports[-1].weights[0]


def test_the_baseline_of_safe_is_a_configured_drafter() -> None:
    """The baseline under `time` is that drafter at its longest draft; with nothing else learned, all weight stays
    on it."""
    drafters = tuple(DrafterConfig(id=name, kind="ngram") for name in "abc")
    args = AppArgs(
        drafters=drafters,
        learner=LearnerConfig(name="safe", baseline="b", objective="time"),
        speculation=SpeculationConfig(draft_lengths=(2, 5)),
    )
    learner = make_answer_learning(np.full(3, 1 / 3), args, "abc", 5, AnswerTimes(StepTimes(), "abc"))
    best = int(learner.expert_weights.argmax())
    assert learner.experts[best] == Expert(1, 5)
    with pytest.raises(ValidationError, match="not one of the drafters"):
        AppArgs(drafters=drafters, learner=LearnerConfig(name="safe", baseline="z"))
    with pytest.raises(ValidationError, match="for learner safe"):
        LearnerConfig(baseline="b")
    with pytest.raises(ValidationError, match="learns from its own drafts"):
        AppArgs(learner=LearnerConfig(name="ucbspec", objective="length"))


def test_time_experts_are_all_pairs_and_none_and_a_request_shortens_them() -> None:
    assert experts_by_length(2, (2, 5), 5) == (Expert(0, 2), Expert(0, 5), Expert(1, 2), Expert(1, 5), Expert(None, 0))
    assert experts_by_length(1, (2, 5), 1) == (Expert(0, 1), Expert(None, 0))
    assert experts_by_length(1, (), 4) == (Expert(0, 4), Expert(None, 0))


async def test_time_learns_that_a_good_draft_can_take_too_long() -> None:
    """Both drafters hit five of five: by passes they are alike, by seconds they are not."""
    run = Run(
        fleet_of(ScriptedDrafter("slow", 5), ScriptedDrafter("fast", 5)),
        ["slow", "fast"],
        num_tokens=400,
        learner_config=LearnerConfig(objective="time"),
        step_times=FixedTimes(),
        draft_lengths=(1, 5),
        wake_every_rounds=0,
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


async def test_rounds_are_timed_by_drafter_and_length() -> None:
    """Only verified draft tokens count: the shorter draft at the end of the answer is another length."""
    run = Run(fleet_of(ScriptedDrafter("a", 5)), ["a"], learn=False)
    assert await run.finish() == EXPECTED
    depths = {r.depth for r in run.reports}
    assert depths == {5, 3}
    here = run.step_times._times.here()
    assert set(here._verify[""]) == depths
    assert set(here._draft["a"]) == {5, 3}, "the answer's first draft, which may read the prompt, is not counted"
    assert here.verify("", 5).median(here.num_rounds) > 0.0


async def test_time_without_lengths_chooses_between_drafters_and_none() -> None:
    run = Run(
        fleet_of(ScriptedDrafter("a", 5), ScriptedDrafter("b", 0)),
        ["a", "b"],
        learner_config=LearnerConfig(objective="time"),
    )
    assert await run.finish() == EXPECTED
    assert {r.depth for r in run.reports} <= {0, 1, 2, 3, 4, 5}


async def test_no_speculation_leads_where_no_draft_is_right_and_gives_way_when_the_text_changes() -> None:
    """Nothing is right before token 200, then b is: it is noticed although all drafters but one sleep by then."""

    class DearDrafts(FixedTimes):
        def seconds(self, experts: Sequence[Expert]) -> NDArray[np.float64]:
            return np.array([1.0 if e.drafter_index is None else 1.5 for e in experts])

    right = ScriptedDrafter("b", right_at=lambda index: 0 if index < 200 else 5)
    run = Run(
        fleet_of(ScriptedDrafter("a", 0), right),
        ["a", "b"],
        num_tokens=600,
        learner_config=LearnerConfig(objective="time"),
        step_times=DearDrafts(),
        draft_deadline_s=60.0,
    )
    assert await run.finish() == list(range(4, 604))
    emitted = np.cumsum([len(r.token_ids) for r in run.reports])
    drafted = np.array([r.num_drafted > 0 for r in run.reports])
    before = (emitted > 60) & (emitted < 200)
    assert drafted[before].mean() < 0.05
    assert len(set(right.scored) & set(range(60, 200))) < 100, "at a low cost"
    first = int(emitted[drafted & (emitted > 202)][0])
    assert first < 300
    assert drafted[emitted > 320].mean() > 0.9
