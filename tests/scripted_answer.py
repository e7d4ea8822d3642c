"""One answer of the decode loop over scripted models, with every part at hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from hedgespec.config import AppArgs, DrafterConfig, LearnerConfig, SpeculationConfig
from hedgespec.learning.answer_learner import AnswerLearner
from hedgespec.learning.build import make_answer_learning
from hedgespec.learning.protocol import AnswerLearning
from hedgespec.learning.step_times import AnswerTimes, StepTimes
from hedgespec.router.answer import Answer, session_spec
from hedgespec.router.decode_loop import DecodeLoop
from hedgespec.router.events import NoEvents
from hedgespec.router.panel import DrafterPanel
from hedgespec.router.selection import FixedSelection, LearnedSelection
from hedgespec.types import GenerationRequest, RoundReport, SamplingParams
from tests.scripted_models import ScriptedDrafter, ScriptedFleet, ScriptedTarget

NUM_TOKENS = 40
EXPECTED = list(range(4, 4 + NUM_TOKENS))


class CountedEvents(NoEvents):
    def __init__(self) -> None:
        self.failures: Counter[tuple[str, str]] = Counter()
        self.missing: Counter[str] = Counter()
        self.num_migrations = 0

    def draft_failed(self, drafter_id: str, reason: str) -> None:
        self.failures[drafter_id, reason] += 1

    def score_missing(self, drafter_id: str) -> None:
        self.missing[drafter_id] += 1

    def migrated(self) -> None:
        self.num_migrations += 1


class Run:
    """An answer of 40 tokens (or num_tokens) after the prompt 1 2 3. config: of `SpeculationConfig`."""

    def __init__(
        self,
        fleet: ScriptedFleet,
        drafter_ids: Sequence[str],
        learn: bool = True,
        num_tokens: int = NUM_TOKENS,
        learner_config: LearnerConfig | None = None,
        step_times: AnswerTimes | None = None,
        **config: object,
    ) -> None:
        self.events = CountedEvents()
        self.fleet = fleet
        self.learner: AnswerLearning | None = None
        settings = SpeculationConfig.model_validate({"draft_deadline_s": 0.05, **config})
        args = AppArgs(
            drafters=tuple(DrafterConfig(id=d, kind="ngram") for d in drafter_ids),
            learner=learner_config or LearnerConfig(objective="rounds"),  # scripted models take no time
            speculation=settings,
        )
        self.step_times = step_times or AnswerTimes(StepTimes(), drafter_ids)
        if learn and drafter_ids:
            preference = np.full(len(drafter_ids), 1 / len(drafter_ids))
            self.learner = make_answer_learning(preference, args, drafter_ids, 5, self.step_times)
        self.panel = DrafterPanel([fleet.pool.get(d) for d in drafter_ids], self.learner, self.events)
        selection = (
            LearnedSelection(self.learner, 1, args.learner.follow)
            if self.learner
            else FixedSelection(0 if drafter_ids else None)
        )
        request = GenerationRequest(
            "s", "tenant", np.array([1, 2, 3], np.int32), SamplingParams(temperature=0.0, max_tokens=num_tokens, seed=1)
        )
        spec = session_spec(request, args, 5, isinstance(self.learner, AnswerLearner))
        self.loop = DecodeLoop(
            spec, fleet, self.panel, selection, self.learner, settings, frozenset(), self.events, self.step_times
        )
        self.answer = Answer(self.loop, self.panel, tuple(drafter_ids), self.learner, None)
        self.reports: list[RoundReport] = []

    async def finish(self) -> list[int]:
        async for report in self.loop.rounds():
            self.reports.append(report)
        return await self.settle()

    async def settle(self) -> list[int]:
        """Do what the service does after the last round."""
        self.loop.score_rest()
        await self.panel.close()
        if self.learner is not None:
            self.learner.finish()
            assert self.learner.failure is None, "learning goes on to the end"
        return self.tokens

    @property
    def tokens(self) -> list[int]:
        return [int(t) for r in self.reports for t in r.token_ids]


def fleet_of(*drafters: ScriptedDrafter, target: ScriptedTarget | None = None) -> ScriptedFleet:
    return ScriptedFleet([target or ScriptedTarget()], {d.drafter_id: d for d in drafters})
