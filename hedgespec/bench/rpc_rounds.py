"""The ways to run a round that `bench.rpc` measures: our stream alone, and the whole decode loop with its learner."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from hedgespec.assembly.local_service import LocalFleet
from hedgespec.bench.rpc_echo import SESSION_ID, TOKENS_PER_ROUND
from hedgespec.bench.rpc_replicas import NUM_DRAFT_TOKENS
from hedgespec.config import SpeculationConfig
from hedgespec.learning.answer_learner import AnswerLearner
from hedgespec.learning.build import make_learner
from hedgespec.learning.feedback import make_feedback
from hedgespec.learning.scoring_plan import ScoringPlan
from hedgespec.learning.step_times import AnswerTimes, StepTimes
from hedgespec.protocols import Drafter, Target
from hedgespec.router.decode_loop import DecodeLoop
from hedgespec.router.events import NoEvents
from hedgespec.router.panel import DrafterPanel
from hedgespec.router.selection import LearnedSelection
from hedgespec.types import DraftRequest, Observation, SamplingParams, SessionSpec

_PROMPT = np.arange(32, dtype=np.int32)


async def wire_rounds(
    target: Target, drafters: Sequence[Drafter], num_sparse_ids: int, session: int, num_rounds: int
) -> None:
    """Run rounds over our stream without a decode loop; every score is awaited before the next round."""
    spec = _spec(session, num_rounds, num_sparse_ids)
    await asyncio.gather(target.open(spec), *(drafter.open(spec) for drafter in drafters))
    start = 0
    for round_index in range(num_rounds):
        chosen = drafters[round_index % len(drafters)]
        tree = await chosen.draft(DraftRequest(spec.session_id, round_index, NUM_DRAFT_TOKENS))
        verdict = await target.verify(spec.session_id, round_index, tree)
        observation = Observation(start, verdict.token_ids, verdict.target_probs)
        start += len(verdict.token_ids)
        await asyncio.gather(*(drafter.observe(spec.session_id, round_index, observation) for drafter in drafters))
    await asyncio.gather(target.close(spec.session_id), *(drafter.close(spec.session_id) for drafter in drafters))


async def loop_rounds(
    target: Target,
    drafters: Sequence[Drafter],
    num_sparse_ids: int,
    session: int,
    num_rounds: int,
    *,
    is_scheduled: bool = False,
    is_grouped: bool = False,
) -> None:
    """Run one answer of the decode loop.

    is_scheduled: request scores on the default schedule; else in every round, which is the most that they can cost
    is_grouped:   all drafters are one group
    """
    config = SpeculationConfig(max_draft_tokens=NUM_DRAFT_TOKENS)
    count = len(drafters)
    feedback = make_feedback("rounds", count, NUM_DRAFT_TOKENS, config.score_timeout_rounds)
    groups = [0] * count if is_grouped else None
    plan = ScoringPlan(count, config.score_dense_rounds, config.score_every, groups) if is_scheduled else None
    learner = AnswerLearner(make_learner("adaptive"), np.full(count, 1.0 / count), feedback, plan=plan)
    fleet = LocalFleet(target, {drafter.drafter_id: drafter for drafter in drafters}, 1, 1.0)
    panel = DrafterPanel(drafters, learner, NoEvents())
    spec = _spec(session, num_rounds, num_sparse_ids)
    selection = LearnedSelection(learner, session)
    times = AnswerTimes(StepTimes(), [drafter.drafter_id for drafter in drafters])
    loop = DecodeLoop(spec, fleet, panel, selection, learner, config, frozenset(), NoEvents(), times)
    async for _ in loop.rounds():
        pass
    await panel.close()


def _spec(session: int, num_rounds: int, num_sparse_ids: int) -> SessionSpec:
    sampling = SamplingParams(
        temperature=1.0 if num_sparse_ids else 0.0, max_tokens=num_rounds * TOKENS_PER_ROUND, ignore_eos=True
    )
    session_id = f"{SESSION_ID[:-4]}{session:04d}"
    return SessionSpec(session_id, _PROMPT, np.zeros(0, np.int32), sampling, session, NUM_DRAFT_TOKENS)
